"""Contract 4: an exported checkpoint is the original with the edit in it, and nothing else."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace

import pytest
import torch
from huggingface_hub import ModelCard

import headpursuit as hp
import tiny
from exporting import saved
from headpursuit.exporting import projections
from headpursuit.model.projection import stores_input_first

OWN = {"headpursuit_edit.json", "README.md"}


@pytest.fixture(scope="module")
def original(request, tmp_path_factory):
    """A family's checkpoint on disk, and the model in it."""
    family, dtype = request.param
    if family == "demo":
        return family, saved.demo_path(), saved.demo()
    folder = saved.save(family, tmp_path_factory.mktemp(family), dtype)
    return family, folder, saved.opened(family, folder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = saved.save("llama", tmp_path_factory.mktemp("llama"), torch.float32)
    return hp.load(folder), folder


ORIGINALS = [(family, dtype) for family in saved.FAMILIES for dtype in (torch.float32, torch.bfloat16)]
EDIT = hp.HeadEdit(["L0.H1", "L2.H3"], scale=[-1, 0.3])


@pytest.mark.parametrize("original", [*ORIGINALS, ("demo", None)], indirect=True, ids=str)
def test_an_exported_checkpoint_is_the_edited_model(original, tmp_path):
    family, folder, model = original
    before, plain = saved.contents(folder), saved.logits(model)
    heads = saved.some_heads(model)
    wide = replace(model, hf=copy.deepcopy(model.hf).float())
    for scale in (-1.0, 0.0, 1.7, (-1.0, 0.0, 0.25)):
        edit, out = hp.HeadEdit(heads, scale=scale), tmp_path / f"{scale}"
        done = hp.export(model, edit, out, progress=False)
        exported = hp.load(out) if family == "demo" else saved.opened(family, out)
        with edit.applied(model):
            hooked = saved.logits(model)
        found = saved.logits(exported)
        assert found.dtype == plain.dtype
        if scale != 1.7:
            assert torch.equal(found, hooked)
        elif plain.dtype == torch.float32:
            assert float((found - hooked).norm() / hooked.norm()) < 1e-5
        else:  # as near to the edit without rounding as the hooked model is; a router may choose otherwise at a token
            with edit.applied(wide):
                exact = saved.logits(wide)
            rounding, error = ((one.float() - exact).norm(dim=-1).median() for one in (hooked, found))
            assert error < 2 * rounding
        assert not torch.equal(found, plain)
        only_heads_changed(model, edit, folder, out, changed=set(done.changed))
    assert saved.contents(folder) == before


def only_heads_changed(model, edit, folder, out, *, changed):
    """Compare the folders byte by byte, with the edit's columns worked out by hand."""
    old, new = saved.contents(folder), saved.contents(out)
    assert new.keys() == old.keys() | OWN
    assert all(new[name] == old[name] for name in old.keys() - OWN if not name.endswith(".safetensors"))
    assert saved.headers(out) == saved.headers(folder)
    before, after = saved.tensors(folder), saved.tensors(out)
    differing = {key for key in before if before[key].view(torch.uint8).ne(after[key].view(torch.uint8)).any()}
    assert differing == changed
    assert len(differing) == len({head.layer for head in edit.heads})
    for key in differing:
        index = int(next(part for part in key.split(".") if part.isdigit()))
        layer = model.anatomy.layer(index)
        rows = [one if stores_input_first(model.module(layer.projection)) else one.T for one in (before[key], after[key])]
        expected, found = (one.unflatten(0, (layer.n_heads, layer.head_width)) for one in rows)
        for head in range(layer.n_heads):
            factors = [factor.scale for factor in edit.factors if factor.head == hp.Head(index, head)]
            scaled = expected[head].float() * (factors or [1.0])[0]
            assert torch.equal(found[head], scaled.to(found.dtype))


@pytest.mark.parametrize("original", [(family, torch.bfloat16) for family in saved.FAMILIES], indirect=True, ids=str)
def test_a_checkpoint_is_exported_without_being_loaded(original, tmp_path, monkeypatch):
    _, folder, model = original
    edit = hp.HeadEdit(saved.some_heads(model), scale=-1)
    edit.save(tmp_path / "edit.json", model=model)
    hp.export(model, edit, tmp_path / "loaded", progress=False)

    def refuse(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(projections, "load", refuse)
    hp.export(folder, tmp_path / "edit.json", tmp_path / "outlined", progress=False)
    loaded, outlined = saved.contents(tmp_path / "loaded"), saved.contents(tmp_path / "outlined")
    records = [json.loads(one.pop("headpursuit_edit.json")) for one in (loaded, outlined)]
    assert loaded == outlined
    assert [record["export"].pop("dtype") for record in records] == ["bfloat16", "auto"]
    assert records[0].pop("sha256") != records[1].pop("sha256")
    assert records[0] == records[1]


def test_heads_of_unknown_origin_are_proven_on_the_loaded_model(llama, tmp_path):
    model, folder = llama
    hp.export(folder, EDIT, tmp_path / "out", progress=False)
    hp.export(model, EDIT, tmp_path / "same", progress=False)
    assert saved.contents(tmp_path / "out") == saved.contents(tmp_path / "same")


def test_an_edit_of_another_model_is_refused(llama, tmp_path):
    model, folder = llama
    EDIT.save(tmp_path / "edit.json", model=tiny.tiny("qwen3"))
    for given in (model, folder):
        with pytest.raises(hp.HeadPursuitError, match="means nothing in another model"):
            hp.export(given, tmp_path / "edit.json", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_untouched_shards_are_copied_or_shared(llama, tmp_path):
    model, folder = llama
    edit = hp.HeadEdit(["L0.H1"], scale=-1)
    hp.export(model, edit, tmp_path / "copied", progress=False)
    done = hp.export(model, edit, tmp_path / "linked", link=True, progress=False)
    assert saved.contents(tmp_path / "linked") == saved.contents(tmp_path / "copied")
    weight_map = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    touched = {weight_map[key] for key in done.changed}
    for file in folder.glob("*"):
        if file.is_file():
            assert not file.samefile(tmp_path / "copied" / file.name)
            shared = file.suffix == ".safetensors" and file.name not in touched
            assert file.samefile(tmp_path / "linked" / file.name) == shared


def test_weights_in_other_forms_are_left_out(llama, tmp_path):
    _, folder = llama
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "original").mkdir()
    others = ("consolidated.safetensors", "pytorch_model-00001-of-00002.bin", "model-q4.gguf", "original/consolidated.00.pth")
    for name in others:
        (tmp_path / "model" / name).write_bytes(b"unedited weights")
    (tmp_path / "model" / ".cache").mkdir()
    (tmp_path / "model" / ".cache" / "lock").touch()
    done = hp.export(tmp_path / "model", EDIT, tmp_path / "out", progress=False)
    assert set(done.left_out) == set(others)
    assert saved.contents(tmp_path / "out").keys() == saved.contents(folder).keys() | OWN


def test_the_record_is_an_edit_and_remembers_earlier_ones(llama, tmp_path):
    model, _ = llama
    hp.export(model, EDIT, tmp_path / "one", progress=False)
    assert hp.load_edit(tmp_path / "one" / "headpursuit_edit.json", model=model) == EDIT
    second = hp.HeadEdit(["L1.H0"], scale=0)
    hp.export(hp.load(tmp_path / "one"), second, tmp_path / "two", progress=False)
    stored = json.loads((tmp_path / "two" / "headpursuit_edit.json").read_text())
    assert [head["name"] for head in stored["heads"]] == ["L1.H0"]
    assert [head["name"] for head in stored["earlier"]["heads"]] == ["L0.H1", "L2.H3"]
    assert (tmp_path / "two" / "README.md").read_text().count("## Edited attention heads") == 2
    with (EDIT + second).applied(model):
        assert torch.allclose(saved.logits(hp.load(tmp_path / "two")), saved.logits(model), atol=1e-4)


@pytest.mark.parametrize(
    ("card", "kept"),
    [
        (None, {}),
        ("# A model\nwithout metadata\n", {}),
        ("---\nlicense: mit\ntags:\n- small\nlanguage:\n- en\n---\n# A model\n", {"license": "mit", "language": ["en"]}),
        ("---\nlicense: [broken\n---\n# A model\n", None),
    ],
)
def test_the_model_card_tells_of_the_edit(llama, tmp_path, card, kept):
    _, folder = llama
    shutil.copytree(folder, tmp_path / "model")
    if card is not None:
        (tmp_path / "model" / "README.md").write_text(card)
    hp.export(tmp_path / "model", EDIT, tmp_path / "out", progress=False)
    written = (tmp_path / "out" / "README.md").read_text()
    assert "| L0.H1 | -1 |\n| L2.H3 | 0.3 |" in written
    assert str(tmp_path) not in written
    assert ("# A model" in written) == (card is not None)
    if kept is None:
        assert written.startswith(card)
        return
    data = ModelCard(written).data.to_dict()
    assert "headpursuit" in data.pop("tags")
    assert data == kept


def test_a_model_of_the_hub_is_exported_from_its_cache(llama, tmp_path, monkeypatch):
    """A cache as huggingface_hub lays it out: blobs, and a snapshot of links to them."""
    model, folder = llama
    repository = tmp_path / "models--some--model"
    snapshot = repository / "snapshots" / ("a" * 40)
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    for name, content in saved.contents(folder).items():
        blob = repository / "blobs" / name.replace("/", "-")
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(content)
        blob.chmod(0o444)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    EDIT.save(tmp_path / "edit.json", model=model)
    before = saved.contents(repository)
    monkeypatch.setattr(projections, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    hp.export("some/model", tmp_path / "edit.json", tmp_path / "out", progress=False)
    only_heads_changed(
        model, EDIT, folder, tmp_path / "out", changed={f"model.layers.{i}.self_attn.o_proj.weight" for i in (0, 2)}
    )
    assert not any(file.is_symlink() for file in (tmp_path / "out").rglob("*"))
    assert saved.contents(repository) == before
    card = ModelCard((tmp_path / "out" / "README.md").read_text())
    assert card.data.base_model == "some/model"
    with pytest.raises(hp.HeadPursuitError, match="the model's own folder"):
        hp.export("some/model", tmp_path / "edit.json", snapshot, progress=False)
