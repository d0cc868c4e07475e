"""What a recipe refuses on its own, before any data is read."""

import pytest

import headpursuit as hp
from headpursuit.evaluation.recipe import load_recipe


@pytest.mark.parametrize("name", ["neutral text", "colours, teacher-forced"])
def test_a_task_is_not_called_like_a_measure_of_every_recipe(name):
    with pytest.raises(hp.HeadPursuitError, match="choose another"):
        load_recipe("demo-digits", set={"tasks.0.name": name})
