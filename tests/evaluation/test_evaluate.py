"""Recipes run for real on the demo model: numbers against direct generation, data apart, every demo recipe to its end."""

from __future__ import annotations

import numpy as np
import pytest

import headpursuit as hp
from data.official_files import write_data
from headpursuit.evaluation.describe import describe_heads
from headpursuit.evaluation.evaluate import sweep
from headpursuit.evaluation.intervals import interval, resampled_means, resampled_median
from headpursuit.evaluation.metrics import exact_match
from headpursuit.evaluation.plan import count_cells
from headpursuit.evaluation.prepare import Source, gather
from headpursuit.evaluation.recipe import EditSpec, load_recipe, recipe_names
from headpursuit.evaluation.results import find
from headpursuit.report.tables import results_tables

DEMO = [name for name in recipe_names() if name.startswith("demo-")]


@pytest.fixture(scope="module")
def model():
    return hp.load("demo", device="cpu")


def small(name, **edit):
    recipe = load_recipe(name)
    if recipe.edit is None:
        return recipe
    smaller = {"k": (1,), "draws": 2, "scales": recipe.edit.scales[-2:], **edit}
    return recipe.model_copy(update={"edit": recipe.edit.model_copy(update=smaller)})


@pytest.fixture(scope="module")
def swept(model, tmp_path_factory):
    recipe = small("demo-digits", k=(1, 2), draws=4)
    recipe = recipe.model_copy(update={"tasks": recipe.tasks[:1]})
    material = gather(recipe, Source(limit=12, seed=3))
    return sweep(material, model, out=tmp_path_factory.mktemp("swept"), seed=3, progress=False), material


def answered(model, material, edit):
    task = material.tasks["classification"]
    with edit.applied(model):
        answers = model.generate(list(task.samples), max_new_tokens=4)
    return np.array([exact_match(answer, sample.target) for answer, sample in zip(answers, task.samples, strict=True)])


def test_rows_are_what_the_edited_model_answers(swept, model):
    found, material = swept
    for method in ("somp", "logit_lens", "attribution"):
        edit = hp.HeadEdit(found.rankings["digits"][method].top(2), scale=-1)
        (row,) = find(found.results.rows, task="classification", selection=method, k=2, metric="accuracy")
        assert row.value == pytest.approx(answered(model, material, edit).mean())


def test_random_rows_are_the_median_over_matched_draws(swept, model):
    found, material = swept
    chosen = found.rankings["digits"]["somp"].top(2)
    draws = hp.random_controls(chosen, model.anatomy.heads(), draws=4, seed=3)
    scores = np.stack([answered(model, material, hp.HeadEdit(heads, scale=-1)) for heads in draws])
    base = found.results.rows[0].value
    (row,) = find(found.results.rows, task="classification", selection="random", k=2, metric="accuracy")
    assert row.value == pytest.approx(np.median(scores.mean(axis=1)))
    assert (row.q25, row.q75) == pytest.approx(tuple(np.quantile(scores.mean(axis=1) / base, [0.25, 0.75])))
    plain = model.generate(list(material.tasks["classification"].samples), max_new_tokens=4)
    right = [exact_match(a, s.target) for a, s in zip(plain, material.tasks["classification"].samples, strict=True)]
    means = resampled_means(np.stack([np.array(right), *scores]), seed=3)
    wanted = interval(resampled_median(means[:, 1:], seed=3) / means[:, 0])
    assert (row.low, row.high) == pytest.approx(wanted)


def test_comparisons_are_of_equal_numbers_of_heads(swept):
    found, _ = swept
    target = [one for one in found.results.comparisons if one.wanted != "same"]
    assert {(one.task, one.metric) for one in target} == {
        ("classification", "accuracy"),
        ("digits, teacher-forced", "log-odds of digits"),
    }
    assert {one.against for one in target} == {"none", "logit_lens", "attribution", "random"}
    for one in target:
        somp, other = (
            find(
                found.results.rows,
                task=one.task,
                metric=one.metric,
                selection=method,
                k=0 if method == "none" else one.k,
            )[0]
            for method in ("somp", one.against)
        )
        unit = "change" if somp.normalized is None else "normalized"
        assert one.difference == pytest.approx(getattr(somp, unit) - getattr(other, unit))
        assert (one.wanted, one.k) == ("less", somp.k)


def test_what_was_said_to_run_is_what_ran(swept):
    found, material = swept
    assert found.found == 0
    assert 0 < found.computed <= sum(count_cells(material).values()) == 3 * (1 + 2 * (3 + 4))


def test_heads_are_chosen_on_other_samples_than_they_are_judged_by(tmp_path):
    folder = write_data("eurosat", tmp_path)
    recipe = load_recipe("classify-eurosat")
    first = gather(recipe, Source(samples=tmp_path))
    assert first.about["selection"]["eurosat"] == {**first.about["selection"]["eurosat"], "n": 8, "left_out": 0}
    twin = next((folder / "test").rglob("*.png"))
    (folder / "train" / twin.parent.name / "twin.png").write_bytes(twin.read_bytes())
    second = gather(recipe, Source(samples=tmp_path))
    assert (second.about["selection"]["eurosat"]["n"], second.about["selection"]["eurosat"]["left_out"]) == (8, 1)
    assert twin.read_bytes() not in {sample.image.read_bytes() for sample in second.selection["eurosat"].samples}
    for image in (folder / "train").rglob("*.png"):
        image.unlink()
    for image in list((folder / "test").rglob("*.png")):
        (folder / "train" / image.parent.name).mkdir(exist_ok=True)
        (folder / "train" / image.parent.name / image.name).write_bytes(image.read_bytes())
    with pytest.raises(hp.HeadPursuitError, match="all 8 selection samples of eurosat are test samples too"):
        gather(recipe, Source(samples=tmp_path))


def test_edits_of_chosen_tokens_are_what_was_asked_for(model, tmp_path):
    recipe = small("demo-colors-image", k=(2,))
    recipe = recipe.model_copy(update={"tasks": recipe.tasks[:1]})
    material = gather(recipe, Source(limit=8))
    found = sweep(material, model, out=tmp_path, progress=False)
    edit = hp.HeadEdit(found.rankings["colours"]["attribution"].top(2), scale=-1, where="image")
    task = material.tasks["captioning"]
    with edit.applied(model):
        answers = model.generate(list(task.samples), **task.options)
    (row,) = find(found.results.rows, selection="attribution", metric="colours words", task="captioning")
    assert row.value == pytest.approx(task.score(answers)["colours words"].mean())
    assert row.where == "image"
    assert {one.where for one in found.results.rows if one.selection == "none"} == {"all"}
    # A text that is read along has no generated tokens, so that nothing could be measured along it.
    of_generated = gather(small("demo-colors-generated"), Source(limit=4))
    assert set(count_cells(of_generated)) == {"captioning", "digits"}


def test_held_out_words_are_counted_and_never_ranked_with():
    recipe = load_recipe("demo-rude")
    concepts = tuple(spec.model_copy(update={"held_out": 0.25}) for spec in recipe.concepts)
    recipe = recipe.model_copy(update={"concepts": concepts})
    material = gather(recipe, Source(limit=8))
    (aim,) = material.aims
    assert not set(aim.concept.words) & set(aim.counted.words)
    assert set(aim.concept.words) | set(aim.counted.words) == set(hp.concept("rude").words)
    assert len(aim.counted.words) == round(len(hp.concept("rude").words) * 0.25)
    score = material.tasks["continuation"].score
    said = [aim.counted.words[0], aim.concept.words[0], *[""] * 6]
    assert score(said)["toxic words"].tolist() == [1, *[0] * 7]
    assert gather(recipe, Source(limit=8, seed=1)).aims[0].counted.words != aim.counted.words


def test_country_questions_and_the_others_are_apart(tmp_path):
    write_data("trivia-qa", tmp_path)
    material = gather(load_recipe("qa-countries"), Source(samples=tmp_path, limit=5))
    about, others = (
        {record.answers[0] for record in material.records[name]} for name in ("country questions", "other questions")
    )
    assert about <= {"France", "Spain", "Japan", "Peru"}
    assert all(answer.startswith("a thing") for answer in others)
    assert len(material.records["country questions"]) == 5
    assert {sample.target for sample in material.selection["countries"].samples} & {
        "a thing 0",
        "a thing 2",
        "a thing 4",
    }


def test_texts_to_read_along_speak_of_the_concept(model):
    from headpursuit.evaluation.cells import Bench
    from headpursuit.evaluation.metrics import count_words
    from headpursuit.evaluation.teacher_forced_tasks import log_odds_name, read_along_task

    material = gather(load_recipe("demo-caption-colors"), Source(limit=12))
    (aim,) = material.aims
    task = read_along_task(aim, material, Bench(model, material.tasks, seed=0))
    assert 0 < len(task.samples) < 12  # some pictures are pencil grey, and no caption says so
    assert all(count_words(sample.target, aim.concept.words) for sample in task.samples)
    values = task.forced[log_odds_name(aim)](model)
    assert values.shape == (len(task.samples),)


@pytest.mark.parametrize("name", DEMO)
def test_every_recipe_of_the_demo_runs_to_its_end(name, model, tmp_path):
    recipe = small(name)
    material = gather(recipe, Source(limit=3))
    if recipe.describe is not None:
        results = describe_heads(material, model, out=tmp_path, progress=False)
    else:
        results = sweep(material, model, out=tmp_path, progress=False).results
        assert {row.selection for row in results.rows} == {"none", "random", *recipe.edit.methods}
    assert results.about["recipe"]["name"] == name
    tables = results_tables(results)
    assert all(table.rows for table in tables)


def test_packaged_recipes_keep_the_papers_protocol():
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.edit is None or isinstance(recipe.edit, EditSpec)
        if recipe.edit is not None:
            assert recipe.edit.draws >= 10
        if not name.startswith("demo-"):
            assert recipe.model in recipe.checkpoints
            assert recipe.model != "demo"
