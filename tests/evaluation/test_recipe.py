"""What a recipe refuses on its own, before any data is read."""

import pytest

import headpursuit as hp
from headpursuit.evaluation.recipe import load_recipe


@pytest.mark.parametrize("name", ["neutral text", "colours, teacher-forced"])
def test_a_task_is_not_called_like_a_measure_of_every_recipe(name):
    with pytest.raises(hp.HeadPursuitError, match="choose another"):
        load_recipe("demo-digits", set={"tasks.0.name": name})


OWN = {
    "title": "own",
    "model": "demo",
    "tasks": [{"name": "a", "data": "x", "metric": "contains"}],
    "concepts": [{"words": "colours", "task": "a", "target": "contains"}],
    "edit": {"k": [1]},
}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("edit.k", 2, "edit.k: 2: give a list, with [ ] around it"),
        ("edit.k", [], "edit.k: []: give a list of at least 1"),
        ("edit.k", ["a"], "edit.k[0]: 'a': give a whole number"),
        ("edit.k", [1.5], "edit.k[0]: 1.5: give a whole number"),
        ("edit.k", [10**10], "edit.k[0]: 10000000000: give 1000000000 or less"),
        ("edit.scales", [float("nan")], "edit.scales[0]: nan: give a finite number"),
        ("edit.scales", ["x"], "edit.scales[0]: 'x': give a number"),
        ("edit.where", "foo", "edit.where: 'foo': give 'all', 'image', 'text', 'prompt' or 'generated'"),
        (
            "edit.methods",
            ["foo"],
            "edit.methods[0]: 'foo': give 'contest', 'calibrated', 'somp', 'logit_lens' or 'attribution'",
        ),
        ("edit.methods", "logit-lens", "edit: name each method once, and somp, the paper's, among them"),
        ("edit", 3, "edit: 3: give a table"),
        ("tasks.0.metric", "foo", "tasks[0].metric[0]: 'foo': choose among contains, exact, f1 and words, or give a function"),
        ("tasks.0.metric", ["contains", 3], "tasks[0].metric[1]: 3: choose among contains, exact, f1 and words, or give"),
        ("tasks.0.name", "", "tasks[0].name: '': give a text that is not empty"),
        ("tasks.0.name", "x" * 5000, "…: give a text of at most 4096 characters"),
        ("tasks.0.temperature", -1, "tasks[0].temperature: -1: give 0 or more"),
        ("title", None, "title: None: give a text"),
        ("goal.at_least", 1, "goal.at_least: 1: give a number above 1"),
        ("goal.at_most", 2, "goal.at_most: 2: give a number below 1"),
        ("goal", {}, "goal: give at_most (suppress), at_least (enhance), or both"),
        ("edit", {"k": [1], 3: 4}, "edit[3]: 3: give a key that is a text"),
        (1, 2, "set: 1 is no key: write the path of one, such as edit.k"),
    ],
)
def test_a_wrong_value_is_named_with_what_may_stand_there(key, value, told):
    with pytest.raises(hp.HeadPursuitError) as error:
        load_recipe(OWN, set={key: value})
    assert told in str(error.value)
    assert "more)" not in str(error.value)


@pytest.mark.parametrize("recipe", [5, None, [OWN], {**OWN, 1: 2}])
def test_what_is_no_recipe_is_one_line(recipe):
    with pytest.raises(hp.HeadPursuitError, match=r"is no recipe: give|give a key that is a text"):
        load_recipe(recipe)
    with pytest.raises(hp.HeadPursuitError, match=r"'edit.k=2': give a mapping from keys to values"):
        load_recipe(OWN, set="edit.k=2")


def test_a_lone_text_where_a_list_is_meant_is_a_list_of_one():
    own = load_recipe(OWN, set={"edit.methods": "somp", "tasks.0.count": "numbers", "checkpoints": "me/model"})
    assert (own.edit.methods, own.tasks[0].count, own.checkpoints) == (("somp",), ("numbers",), ("me/model",))
    assert load_recipe("demo-describe", set={"describe.heads": "L1.H2"}).describe.heads == ("L1.H2",)
