"""Recipes run for real on the demo model: numbers against direct generation, data apart, every demo recipe to its end."""

from __future__ import annotations

import json

import numpy as np
import pytest

import headpursuit as hp
from data.official_files import write_data
from headpursuit.concepts.counting import count_words
from headpursuit.evaluation.cells import Task
from headpursuit.evaluation.evaluate import check_folder, evaluate, gather
from headpursuit.evaluation.intervals import interval, resampled_means, resampled_median
from headpursuit.evaluation.metrics import exact_match
from headpursuit.evaluation.plan import count_cells
from headpursuit.evaluation.prepare import Source, prepare
from headpursuit.evaluation.rankings import stored_rankings
from headpursuit.evaluation.recipe import EditSpec, load_recipe, recipe_names
from headpursuit.evaluation.results import Results, find
from headpursuit.files import locked

DEMO = [name for name in recipe_names() if name.startswith("demo-")]


@pytest.fixture(scope="module")
def model():
    return hp.load("demo", device="cpu")


def small(name, **edit):
    recipe = load_recipe(name)
    if recipe.select is not None:
        fewer = {"methods": recipe.select.methods[:6], "k": (1,), "scales": (-1.0,), "draws": 2, "halves": False}
        return recipe.model_copy(update={"select": recipe.select.model_copy(update=fewer)})
    if recipe.edit is None:
        return recipe
    # Of the scales the first and the last, since goals need one on each side of 1.
    scales = tuple(dict.fromkeys((recipe.edit.scales[0], recipe.edit.scales[-1])))
    smaller = {"k": (1,), "draws": 2, "scales": scales, **edit}
    return recipe.model_copy(update={"edit": recipe.edit.model_copy(update=smaller)})


@pytest.fixture(scope="module")
def recipe():
    made = small("demo-digits", k=(1, 2), draws=4, methods=("somp", "logit_lens", "attribution"))
    return made.model_copy(update={"tasks": made.tasks[:1], "goal": None})


@pytest.fixture(scope="module")
def prepared(recipe, model):
    return gather(recipe, model, limit=12, seed=3)


@pytest.fixture(scope="module")
def found(recipe, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return evaluate(recipe, model, out=out, limit=12, seed=3, progress=False), out


def answered(model, prepared, edit):
    task = prepared.tasks["classification"]
    with edit.applied(model):
        answers = model.generate(list(task.samples), max_new_tokens=4)
    return np.array([exact_match(answer, sample.target) for answer, sample in zip(answers, task.samples, strict=True)])


def test_rows_are_what_the_edited_model_answers(found, prepared, model):
    results, _ = found
    (concept,) = results.concepts
    for method in ("somp", "logit_lens", "attribution"):
        edit = hp.HeadEdit(concept.heads(2, method=method), scale=-1)
        (row,) = find(results.rows, task="classification", selection=method, k=2, metric="accuracy")
        assert row.value == pytest.approx(answered(model, prepared, edit).mean())


def test_random_rows_are_the_median_over_matched_draws(found, prepared, model):
    results, _ = found
    chosen = results.concepts[0].heads(2)
    draws = hp.random_controls(chosen, model.anatomy.heads(), draws=4, seed=3)
    scores = np.stack([answered(model, prepared, hp.HeadEdit(heads, scale=-1)) for heads in draws])
    base = results.rows[0].value
    (row,) = find(results.rows, task="classification", selection="random", k=2, metric="accuracy")
    assert row.value == pytest.approx(np.median(scores.mean(axis=1)))
    assert (row.q25, row.q75) == pytest.approx(tuple(np.quantile(scores.mean(axis=1) / base, [0.25, 0.75])))
    plain = model.generate(list(prepared.tasks["classification"].samples), max_new_tokens=4)
    right = [exact_match(a, s.target) for a, s in zip(plain, prepared.tasks["classification"].samples, strict=True)]
    means = resampled_means(np.stack([np.array(right), *scores]), seed=3)
    wanted = interval(resampled_median(means[:, 1:], seed=3) / means[:, 0])
    assert (row.low, row.high) == pytest.approx(wanted)


def test_numbers_of_heads_of_the_paper_are_cut_to_the_models(model, tmp_path):
    made = small("demo-digits", k=(1, 2, 99), draws=2, methods=("somp",))
    made = made.model_copy(update={"tasks": made.tasks[:1], "goal": None})
    with pytest.warns(UserWarning, match=r"edit\.k: 1, 2, 99 of demo-digits cut to 1, 2, \d+: .* 120 heads"):
        results = evaluate(made, model, out=tmp_path / "run", limit=2, progress=False)
    (concept,) = results.concepts
    most = max(row.k for row in results.rows)
    order, others = concept.rankings["somp"].order(), model.anatomy.heads()
    assert {row.k for row in results.rows if row.selection == "random"} == {1, 2, most}
    hp.random_controls(order[:most], others, draws=1)
    with pytest.raises(hp.HeadPursuitError, match="too few for a disjoint control"):
        hp.random_controls(order[: most + 1], others, draws=1)
    with pytest.warns(UserWarning, match="cut to"):  # the folder is still this recipe's
        assert evaluate(made, model, out=tmp_path / "run", limit=2, progress=False).rows == results.rows
    with pytest.raises(hp.HeadPursuitError, match=r"edit\.k\[2\]: 99 of the 120 heads"):
        evaluate(made.model_copy(update={"paper": ""}), model, limit=2, progress=False)


def test_comparisons_are_of_equal_numbers_of_heads(found):
    results, _ = found
    target = [one for one in results.comparisons if one.wanted != "same"]
    assert {(one.task, one.metric) for one in target} == {
        ("classification", "accuracy"),
        ("digits, teacher-forced", "log-odds of digits"),
    }
    assert {one.against for one in target} == {"none", "logit_lens", "attribution", "random"}
    for one in target:
        somp, other = (
            find(results.rows, task=one.task, metric=one.metric, selection=method, k=0 if method == "none" else one.k)[0]
            for method in ("somp", one.against)
        )
        assert one.difference == pytest.approx(somp.effect - other.effect)
        assert (one.wanted, one.k) == ("less", somp.k)


def test_what_was_said_to_run_is_what_ran(found, prepared):
    _, out = found
    ran = len(list((out / "cells").glob("*.json")))
    assert 0 < ran <= sum(count_cells(prepared).values()) == 3 * (1 + 2 * (3 + 4))


def test_what_is_read_back_is_what_was_written(found):
    results, out = found
    assert Results.load(out) == results
    stored = json.loads((out / "results.json").read_text())
    assert {"recipe", "model", "versions", "rows"} <= set(stored)
    assert len(results.to_frame()) == len(results.rows)
    assert all(len(one["tokens"]) == 16 for one in stored["data"])


def test_a_recipe_is_a_name_a_mapping_or_a_recipe_and_gives_the_same_rows(recipe, found, model):
    results, _ = found
    content = {key: value for key, value in recipe.model_dump().items() if value is not None}
    again = evaluate(content, model, limit=12, seed=3, progress=False)
    assert again.rows == results.rows
    assert load_recipe("demo-digits", set={"edit.k": [2], "tasks.0.limit": 7}).tasks[0].limit == 7
    with pytest.raises(hp.HeadPursuitError, match=r"recipe: edit\.kk is no key"):
        load_recipe(content, set={"edit.kk": [2]})
    with pytest.raises(hp.HeadPursuitError, match="no name"):
        load_recipe({**content, "name": "../../x"})


def test_goals_settle_on_a_number_of_heads_and_judge_it_on_test_data(model):
    made = small("demo-digits", k=(1, 2), methods=("somp", "logit_lens"))
    results = evaluate(made, model, limit=16, progress=False)
    (concept,) = results.concepts
    (verdict,) = concept.verdicts
    assert verdict.k in (1, 2)
    assert concept.heads() == concept.rankings["somp"].top(verdict.k)
    (row,) = find(results.rows, task=verdict.task, metric=verdict.metric, selection="somp", k=verdict.k)
    assert verdict.effect == row.normalized
    assert verdict.held == (row.normalized <= made.goal.at_most)
    assert [(one.task, one.metric) for one in verdict.kept] == [
        ("captioning", "true mentions"),
        ("other questions", "exact match"),
    ]
    for one in verdict.kept:
        (kept,) = find(results.rows, task=one.task, metric=one.metric, selection="somp", k=verdict.k)
        assert one.effect == kept.effect
    assert bool(verdict.misses) != verdict.reached or not verdict.control_held
    assert concept.examples
    assert {example.after for example in concept.examples} != {None}


def test_the_first_method_is_asked_for_the_goals_and_a_contest_is_judged_by_them(model, tmp_path, monkeypatch):
    made = small("demo-digits", k=(1, 2), methods=("contest", "somp"))
    results = evaluate(made, model, out=tmp_path, limit=16, progress=False)
    (concept,) = results.concepts
    (verdict,) = concept.verdicts
    ranking = concept.rankings["contest"]
    assert concept.method == "contest"
    assert concept.heads() == ranking.top(verdict.k)
    assert (ranking.about["at"], ranking.about["scale"]) == (1.0, -1.0)
    assert "grown" in ranking.about["reached"]
    (row,) = find(results.rows, task=verdict.task, metric=verdict.metric, selection="contest", k=verdict.k)
    assert verdict.effect == row.normalized
    assert {one.against for one in results.comparisons} == {"none", "somp", "random"}
    monkeypatch.setattr("headpursuit.evaluation.cells._run", None)  # all of it is kept
    monkeypatch.setattr("headpursuit.evaluation.rankings.select", None)
    assert evaluate(made, model, out=tmp_path, limit=16, progress=False) == results


def test_own_rows_are_halved_and_scored_by_the_metrics_that_were_asked_for(model, tmp_path):
    from headpursuit.demo import demo_samples

    drawn = demo_samples("countries", "test", limit=40)
    lines = [{"question": {"text": one.text}, "aliases": [one.target, one.target.upper()]} for one in drawn]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))

    def shouts(answer, record):
        return float(answer.isupper())

    own = {
        "title": "my questions",
        "model": "demo",
        "tasks": [
            {
                "name": "mine",
                "data": str(tmp_path / "mine.jsonl"),
                "text": "question.text",
                "answers": "aliases",
                "metric": ["contains", "exact", "f1", "words", shouts],
                "max_new_tokens": 12,
            }
        ],
        "concepts": [{"words": "countries", "task": "mine", "target": "contains"}],
        "edit": {"k": [1], "draws": 2},
        "neutral": "demo-facts",
    }
    results = evaluate(own, model, limit=12, progress=False)
    names = {row.metric for row in results.rows if row.task == "mine"}
    assert names == {"contains", "exact", "f1", "countries words", "shouts"}
    (base,) = find(results.rows, metric="contains", selection="none")
    assert base.value > 0.8
    assert {row.selection for row in results.rows} == {"none", "somp", "logit_lens", "random"}
    used = {one.use: one.n for one in results.data}
    assert used["test"] <= 12
    assert used["selection"] <= 12
    rows = {**own, "tasks": [{**own["tasks"][0], "data": "rows"}]}
    assert evaluate(rows, model, data={"rows": lines}, limit=12, progress=False).rows == results.rows
    for change, said in (
        ({"metric": ()}, r"tasks\[0\].metric: say how own data is scored"),
        ({"text": "body"}, r"no field 'body' with a text; it has question, aliases"),
    ):
        wrong = {**own, "tasks": [{**own["tasks"][0], **change}]}
        with pytest.raises(hp.HeadPursuitError, match=said):
            evaluate(wrong, model, progress=False)


def test_a_target_that_the_unedited_model_never_says_is_told(model):
    recipe = small("demo-rude")
    spec = recipe.concepts[0].model_copy(update={"words": "weekdays", "name": "weekdays"})
    results = evaluate(recipe.model_copy(update={"concepts": (spec,)}), model, limit=6, progress=False)
    (verdict,) = results.concepts[0].verdicts
    assert verdict.effect is None
    assert "scores 0 on toxic words" in verdict.misses[0]
    assert not verdict.settled


def with_goal(recipe, **goal):
    return load_recipe({**recipe.model_dump(exclude_none=True), "goal": goal})


def test_what_a_goal_keeps_is_tried_at_its_scales(model):
    recipe = small("demo-colors-generated")
    with pytest.raises(hp.HeadPursuitError, match=r"goal.keep\[0\]: neutral text is not tried .* generated tokens"):
        gather(with_goal(recipe, at_most=0.5, keep=[{"at_most": 0.1}]), model, limit=4)
    results = evaluate(with_goal(recipe, at_most=0.5), model, limit=4, progress=False)
    assert len(results.concepts[0].verdicts) == 1
    with pytest.raises(hp.HeadPursuitError, match="one sample to choose an edit by"):
        gather(with_goal(recipe, at_most=0.5), model, limit=1)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"at_least": 0.95}, r"goal.keep\[0\].at_least: negative log-likelihood .* give at_most, in nats a token"),
        ({"task": "captioning", "metric": "words", "at_most": 0.1}, r"at_most: words of captioning is .* give at_least"),
        ({"metric": "F1", "at_most": 0.1}, r"goal.keep\[0\].metric: neutral text measures no 'F1'"),
    ],
)
def test_a_bound_is_of_the_kind_in_which_its_metric_is_compared(keep, message):
    with pytest.raises(hp.HeadPursuitError, match=message):
        prepare(with_goal(small("demo-digits"), at_most=0.5, keep=[keep]), Source(limit=4))


def test_a_goal_is_settled_on_the_questions_that_it_keeps(tmp_path):
    write_data("trivia-qa", tmp_path)
    keep = [{"task": "other questions", "metric": "F1", "at_least": 0.9}]
    found = prepare(with_goal(load_recipe("qa-countries"), at_most=0.5, keep=keep), Source(path=tmp_path))
    asked = {name: {sample.target for sample in task.samples} for name, task in found.kept.items()}
    assert asked["other questions"] == {target for target in found_targets(found) if target.startswith("a thing")}
    assert asked["country questions"] == found_targets(found) - asked["other questions"]


def found_targets(prepared):
    return {sample.target for sample in prepared.selection["countries"].samples}


def test_options_beside_a_model_in_memory_are_refused(model):
    for option in ("lmit", "dtype"):
        with pytest.raises(hp.HeadPursuitError, match=f"{option}: no option of evaluate beside a model in memory"):
            evaluate("demo-digits", model, progress=False, **{option: 3})


def test_a_folder_is_for_one_recipe_and_its_settings(recipe, found, model, tmp_path):
    _, out = found
    with pytest.raises(hp.HeadPursuitError, match="holds results of demo-digits with other edit: choose another folder"):
        evaluate(recipe, model, out=out, set={"edit.k": [1]}, limit=12, seed=3, progress=False)
    for name in ("cells", "images"):
        (tmp_path / name).mkdir()
    for name in ("results.csv", "comparisons.csv"):  # a run that was cut off while it saved
        (tmp_path / name).write_text("")
    check_folder(tmp_path, "demo-digits")


def test_rankings_along_own_answers_know_how_those_were_made(model, tmp_path):
    samples = [hp.Sample(text=text) for text in ("Name the opposite of hot.", "Which country has Lima as its capital?")]
    for options, seed in (({"max_new_tokens": 2}, 0), ({"max_new_tokens": 4}, 0), ({"max_new_tokens": 4}, 1)) * 2:
        task = Task("t", samples, (), options=options)
        stored_rankings(
            model, hp.concept("countries"), task, methods=("attribution",), seed=seed, folder=tmp_path, progress=False
        )
    assert len(list((tmp_path / "rankings").iterdir())) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"concepts": [], "edit": None, "describe": {"task": "country questions"}}, r"tasks\[0\].only: needs a first concept"),
        ({"concepts": [{"words": "classes", "task": "country questions", "target": "F1"}]}, r"tasks\[0\].only: needs"),
    ],
)
def test_questions_are_told_apart_by_words(changes, message):
    content = {**load_recipe("qa-countries").model_dump(exclude_none=True), **changes}
    with pytest.raises(hp.HeadPursuitError, match=message):
        load_recipe(content)


def test_a_method_may_be_written_with_a_hyphen():
    assert EditSpec(k=(1,), methods=["somp", "logit-lens"]).methods == ("somp", "logit_lens")


def test_rows_may_be_read_once_and_a_task_need_not_measure_the_target(model):
    from headpursuit.demo import demo_samples

    rows = [{"text": one.text, "answers": [one.target]} for one in demo_samples("countries", "test", limit=40)]
    own = {
        "title": "two measures of the same questions",
        "model": "demo",
        "tasks": [{"name": name, "data": "rows", "metric": name, "max_new_tokens": 8} for name in ("f1", "contains")],
        "concepts": [{"words": "countries", "task": "contains", "target": "contains"}],
        "edit": {"k": [1], "draws": 2},
        "goal": {"at_most": 0.9},
        "neutral": "demo-facts",
    }
    results = evaluate(own, model, data={"rows": iter(rows)}, limit=6, progress=False)
    assert [(one.task, one.metric) for one in results.concepts[0].verdicts] == [("contains", "contains")]


def test_heads_are_chosen_on_other_samples_than_they_are_judged_by(tmp_path):
    folder = write_data("eurosat", tmp_path)
    recipe = load_recipe("classify-eurosat")
    first = prepare(recipe, Source(path=tmp_path))
    assert [(one.n, one.left_out) for one in first.data if one.use == "selection"] == [(8, 0)]
    twin = next((folder / "test").rglob("*.png"))
    (folder / "train" / twin.parent.name / "twin.png").write_bytes(twin.read_bytes())
    second = prepare(recipe, Source(path=tmp_path))
    assert [(one.n, one.left_out) for one in second.data if one.use == "selection"] == [(8, 1)]
    assert twin.read_bytes() not in {sample.image.read_bytes() for sample in second.selection["eurosat"].samples}
    for image in (folder / "train").rglob("*.png"):
        image.unlink()
    for image in list((folder / "test").rglob("*.png")):
        (folder / "train" / image.parent.name).mkdir(exist_ok=True)
        (folder / "train" / image.parent.name / image.name).write_bytes(image.read_bytes())
    with pytest.raises(hp.HeadPursuitError, match="all 8 selection samples of eurosat are test samples too"):
        prepare(recipe, Source(path=tmp_path))


def test_edits_of_chosen_tokens_are_what_was_asked_for(model, tmp_path):
    recipe = small("demo-colors-image", k=(2,))
    recipe = recipe.model_copy(update={"tasks": recipe.tasks[:1]})
    results = evaluate(recipe, model, limit=8, progress=False)
    edit = hp.HeadEdit(results.concepts[0].heads(2, method="attribution"), scale=-1, where="image")
    task = gather(recipe, model, limit=8).tasks["captioning"]
    with edit.applied(model):
        answers = model.generate(list(task.samples), **task.options)
    (row,) = find(results.rows, selection="attribution", metric="colours words", task="captioning")
    assert row.value == pytest.approx(task.score(answers)["colours words"].mean())
    assert row.where == "image"
    assert {one.where for one in results.rows if one.selection == "none"} == {"all"}
    # A given answer has no generated tokens, so that nothing could be measured along it.
    of_generated = prepare(small("demo-colors-generated"), Source(limit=4))
    assert set(count_cells(of_generated)) == {"captioning", "digits"}


def test_held_out_words_are_counted_and_never_ranked_with():
    recipe = load_recipe("demo-rude")
    concepts = tuple(spec.model_copy(update={"held_out": 0.25}) for spec in recipe.concepts)
    recipe = recipe.model_copy(update={"concepts": concepts})
    found = prepare(recipe, Source(limit=8))
    (aim,) = found.concepts
    assert not set(aim.concept.words) & set(aim.counted.words)
    assert set(aim.concept.words) | set(aim.counted.words) == set(hp.concept("rude").words)
    assert len(aim.counted.words) == round(len(hp.concept("rude").words) * 0.25)
    score = found.tasks["continuation"].score
    said = [aim.counted.words[0], aim.concept.words[0], *[""] * 6]
    assert score(said)["toxic words"].tolist() == [1, *[0] * 7]
    assert prepare(recipe, Source(limit=8, seed=1)).concepts[0].counted.words != aim.counted.words


def test_country_questions_and_the_others_are_apart(tmp_path):
    write_data("trivia-qa", tmp_path)
    found = prepare(load_recipe("qa-countries"), Source(path=tmp_path, limit=5))
    about, others = ({record.answers[0] for record in found.records[name]} for name in ("country questions", "other questions"))
    assert about <= {"France", "Spain", "Japan", "Peru"}
    assert all(answer.startswith("a thing") for answer in others)
    assert len(found.records["country questions"]) == 5
    assert {sample.target for sample in found.selection["countries"].samples} & {"a thing 0", "a thing 2", "a thing 4"}


def test_given_answers_speak_of_the_concept(model):
    from headpursuit.evaluation.cells import Cells
    from headpursuit.evaluation.teacher_forced_tasks import teacher_forced_task

    found = prepare(load_recipe("demo-caption-colors"), Source(limit=12))
    (concept,) = found.concepts
    name = concept.spec.task
    task = teacher_forced_task(
        concept.counted, found.tasks[name], found.records[name], Cells(model, found.tasks, seed=0), multi_token="skip"
    )
    assert 0 < len(task.samples) < 12  # some pictures are pencil grey, and no caption says so
    assert all(count_words(sample.target, concept.concept.words) for sample in task.samples)
    (metric,) = task.metrics
    assert (metric.name, metric.compared_by, metric.concept) == ("log-odds of colours", "change", "colours")
    assert task.measure(model)[metric.name].shape == (len(task.samples),)


@pytest.mark.parametrize("neutral", ["demo-facts", "text"])
def test_no_more_texts_are_read_along_than_asked_for(neutral, model):
    changes = {"neutral": neutral, "edit.read_limit": 5, "edit.methods": ["somp"], "edit.k": [1], "edit.draws": 2}
    found = evaluate("demo-caption-colors", model, limit=40, progress=False, set={**changes, "goal": None})
    read = {row.task: row.n for row in found.rows if row.task in ("neutral text", "colours, teacher-forced")}
    assert read == {"neutral text": 5, "colours, teacher-forced": 5}
    assert {row.n for row in found.rows if row.task == "captioning"} == {40}
    # Heads are chosen as before.
    prepared = prepare(load_recipe("demo-caption-colors", set={"neutral": neutral, "edit.read_limit": 5}), Source(limit=40))
    assert len(prepared.quiet) == (40 if neutral == "demo-facts" else 0)


@pytest.mark.filterwarnings("ignore:no edit of .* within the goal")  # a dozen samples say little
@pytest.mark.parametrize("name", DEMO)
def test_every_recipe_of_the_demo_runs_to_its_end(name, model, tmp_path):
    recipe = small(name)
    # A contest needs a few samples that speak of the concept.
    limit = 12 if recipe.edit is not None and "contest" in recipe.edit.methods else 3
    results = evaluate(recipe, model, out=tmp_path, limit=limit, progress=False)
    if recipe.select is not None:
        assert {one.method for one in results.curves} == {"random", *(one.label for one in recipe.select.methods)}
    elif recipe.describe is None:
        assert {row.selection for row in results.rows} == {"none", "random", *recipe.edit.methods}
        assert {(row.task, row.metric) for row in results.rows} == {(one.task, one.name) for one in results.metrics}
    else:
        assert len(results.descriptions) == 2 * len(model.anatomy.heads())
    assert results.settings["name"] == name
    assert Results.load(tmp_path) == results


def test_packaged_recipes_keep_the_papers_protocol():
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.edit is None or isinstance(recipe.edit, EditSpec)
        if recipe.edit is not None:
            assert recipe.edit.draws >= (3 if name.startswith("demo-") else 10)
        if not name.startswith("demo-"):
            assert recipe.model in recipe.checkpoints
            assert recipe.model != "demo"


def test_results_that_were_cut_off_while_written_are_no_others(tmp_path):
    (tmp_path / "results.json").write_text('{"format": 3, "recipe": "demo-')
    check_folder(tmp_path, "demo-digits")
    (tmp_path / "results.json").write_text('{"format": 3, "recipe": "demo-facts"}')
    with pytest.raises(hp.HeadPursuitError, match="holds results of demo-facts"):
        check_folder(tmp_path, "demo-digits")


def test_one_process_writes_a_folder_at_a_time(tmp_path):
    with locked(tmp_path), pytest.raises(hp.HeadPursuitError, match="is being written by another process"):
        hp.evaluate("demo-digits", "demo", out=tmp_path, set={"edit.k": [1], "edit.draws": 2}, limit=4, progress=False)
