"""Opening a model: ``hp.load`` for a name or a folder, ``hp.wrap`` for a model already in memory."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from headpursuit.demo import demo_path
from headpursuit.engines import Engine
from headpursuit.errors import ChoiceError, HeadPursuitError, check_choice, shown
from headpursuit.hooks import is_changed
from headpursuit.model.anatomy import Anatomy
from headpursuit.model.checkpoint_files import OTHER_FORMS, PICKLES, defect
from headpursuit.model.finding import find_anatomy, how_to_say
from headpursuit.model.gguf_loading import find_gguf, given_to_transformers
from headpursuit.model.head_model import HeadModel
from headpursuit.model.heads import PARTS, Part
from headpursuit.model.identity import weights_fingerprint
from headpursuit.model.images import find_image_style
from headpursuit.model.loaded import ModelSource
from headpursuit.model.selfcheck import proven
from headpursuit.optional import optional_import

# What is taken for a model.
ModelLike = HeadModel | str | Path
R = TypeVar("R")

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "f16": "float16", "f32": "float32", "half": "float16"}
# So many characters of a library's message are passed on.
_LONGEST = 300
# More layers than this are built for minutes before anything is read, and no model has them.
_MOST_LAYERS = 10_000


def load(
    model: str | Path,
    *,
    gguf_file: str | None = None,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "auto",
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
    part: Part = "text",
    anatomy: Anatomy | None = None,
    **options: Any,
) -> HeadModel:
    """Open a checkpoint and find its heads.

    Args:
        model: a Hub name, a local folder in the Hub's format, a GGUF file (``model.gguf``, or ``OWNER/NAME/FILE.gguf`` on the
            Hub; of one in parts any part), or ``demo``, the model that comes with the package. A GGUF file's weights are
            dequantised, and its tokenizer is the one that it holds.
        gguf_file: a GGUF file in the folder or under the Hub name; the same as ``MODEL/FILE``.
        revision: commit, branch or tag on the Hub.
        device: where to put it; CUDA when there is one, else the CPU; ``auto`` spreads it over devices, memory and
            disk (``device_map="auto"``, with accelerate). Ignored when ``device_map`` is given.
        dtype: ``auto`` keeps the checkpoint's own (float32 for most GGUF files); ``float32``, ``bfloat16`` (``bf16``),
            ``float16`` (``fp16``).
        attn_implementation: ``eager``, ``sdpa``, …; heads are read behind the kernel, so any is right.
        trust_remote_code: run code that comes with the checkpoint. Off unless asked.
        part: which of its heads: ``text``, those of the decoder that writes text; ``cross``, those of cross-attention beside
            its self-attention; ``vision``, those of the vision tower. One at a time: edits of several parts are nested.
        anatomy: where its heads are, for a model whose structure is not recognised; it is checked like any other.
        **options: anything else for ``from_pretrained`` (``device_map``, ``quantization_config``, …).

    Returns:
        The wrapped model, in evaluation mode, its decomposition checked on a few tokens.

    Raises:
        HeadPursuitError: there is no such model, it has no language-model head, or its heads do not add up.
        MissingExtraError: the libraries that read GGUF files are not installed.

    >>> hp.load("demo", device="cpu")
    HeadModel(demo: LlavaForConditionalGeneration, text heads: 6 layers × 20 heads of width 16, model width 120, float32 on cpu)
    """
    if isinstance(model, HeadModel):
        raise HeadPursuitError(f"{model.source.id} is loaded already: use it as it is")
    check_model(model)
    check_choice(PARTS, part=part)
    model = model if gguf_file is None else f"{model}/{gguf_file}"
    dtype = _dtype(dtype)
    if device == "auto":
        device, options = None, {"device_map": "auto", **options}
    if options.get("device_map") is not None:
        optional_import("accelerate", extra="devices", purpose=f"device_map={options['device_map']!r:.40}, device='auto'")
    wanted, gguf = _device(device), find_gguf(model, revision=revision)
    with _as_files(model, gguf, revision=revision, trust_remote_code=trust_remote_code) as (path, common):
        config = AutoConfig.from_pretrained(path, **common)
        _refuse_config(model, config, trust_remote_code=trust_remote_code)
        hf, loading = _auto_class(config).from_pretrained(
            path,
            dtype=dtype,
            attn_implementation=attn_implementation,
            use_safetensors=True,
            output_loading_info=True,
            **common,
            **({} if gguf is None else {"config": config, **_dequantising()}),  # a configuration takes seconds to read there
            **options,
        )
        processor = _named(_load_processor(path, config, common), model, gguf)
        if "device_map" not in options:
            hf.to(wanted)
    missing = sorted(loading["missing_keys"])
    if missing:
        raise HeadPursuitError(
            f"{model} lacks {len(missing)} weights of {type(hf).__name__} ({', '.join(missing[:3])}, …), which would be "
            "random: it was saved by another version of transformers than this one, or its files are not complete"
        )
    source = _source_of(hf, id=str(model), gguf=gguf, folder=local_folder(model, revision=revision))
    return _attach(hf.eval(), _with_padding(processor, source.id), anatomy, part=part, source=source)


def wrap(hf: PreTrainedModel, processor: Any = None, *, part: Part = "text", anatomy: Anatomy | None = None) -> HeadModel:
    """See a model that is already in memory as a set of heads; the model itself is not changed.

    Args:
        hf: a transformers model with a language-model head.
        processor: its processor or tokenizer; looked up under the model's own name when left out.
        part: which of its heads, see :func:`load`.
        anatomy: where its heads are, for a model whose structure is not recognised; it is checked like any other.

    Raises:
        HeadPursuitError: it is no transformers model, no processor was given or found, the model has no language-model head,
            or its heads do not add up.

    >>> hp.wrap(model.hf, model.processor, part="vision").anatomy.heads()[0]
    Head(layer=0, head=0, part='vision')
    """
    if not (isinstance(hf, nn.Module) and hasattr(hf, "config")):
        raise HeadPursuitError(f"{shown(hf)} is no transformers model: give one, or open a name or folder with hp.load")
    name = getattr(hf.config, "_name_or_path", "")
    given = processor is not None
    if not given:
        try:
            with opening(name):
                processor = _load_processor(name, hf.config, {"trust_remote_code": False}) if name else None
        except HeadPursuitError:
            processor = None
        if processor is None:
            raise HeadPursuitError(
                f"no processor for {type(hf).__name__}: give it, hp.wrap(model, processor=AutoTokenizer.from_pretrained(…))"
            )
    name = "demo" if name == _path_of("demo") else name
    folder = local_folder(name, revision=getattr(hf.config, "_commit_hash", None)) if name else None
    source = _source_of(hf, id=name or type(hf).__name__, folder=folder)
    return _attach(hf, _with_padding(processor, source.id, copied=given), anatomy, part=part, source=source)


def as_model(model: ModelLike) -> HeadModel:
    """A model in memory as it is, or the one that :func:`load` opens by a name or folder.

    Raises:
        HeadPursuitError: it is neither, or there is no such model.
    """
    check_model(model)
    return model if isinstance(model, HeadModel) else load(model)


def sendable(model: HeadModel, *, on_gpu: bool = False) -> Callable[[], HeadModel]:
    """What gives the same model in another process: loaded from where it came from, or as it is where it came from nowhere.

    There it lies on the process's own device, a model that is on the CPU here on the CPU.

    Args:
        model: the model.
        on_gpu: the process has a GPU of its own, for whatever this one has.

    Raises:
        HeadPursuitError: an edit is applied, which would not travel; called there: another model lies under the name.
    """
    source = model.source
    if is_changed(model.hf):
        raise HeadPursuitError("an edit or another hook is on the model, which workers would not see: use engine='local'")
    if source.path is None and source.revision is None:
        return partial(_same, replace(model))
    options = {
        "device": "cpu" if model.device.type == "cpu" and not on_gpu else None,
        "anatomy": model.anatomy,
        "revision": source.revision,
        "dtype": str(model.hf.dtype).removeprefix("torch."),
        "attn_implementation": getattr(model.hf.config, "_attn_implementation", None),
        "trust_remote_code": hasattr(model.hf.config, "auto_map"),
        "part": model.anatomy.part,
    }
    name = source.id if source.path is None or source.id == "demo" else str(source.path.absolute())
    return partial(_loaded_again, name, weights_fingerprint(model.hf), options)


def setup_for(function: Callable[..., R], model: HeadModel, *, engine: Engine) -> Callable[[], Callable[..., R]]:
    """What sets a worker up (:func:`headpursuit.engines.mapped`) to call a function with the model before each part.

    Raises:
        HeadPursuitError: as for :func:`sendable`, where there are workers.
    """
    if engine.name == "local":
        return partial(partial, function, model)
    return partial(_given, function, sendable(model, on_gpu=engine.gpus_per_worker > 0))


def _given(function: Callable[..., R], make_model: Callable[[], HeadModel]) -> Callable[..., R]:
    return partial(function, make_model())


def _same(model: HeadModel) -> HeadModel:
    return model


# What this process loaded last for another one, which may send it several kinds of work.
_loaded_last: dict[str, HeadModel] = {}


def _loaded_again(name: str, fingerprint: str, options: Mapping[str, Any]) -> HeadModel:
    asked = repr((name, fingerprint, options))
    if asked in _loaded_last:
        return _loaded_last[asked]
    _loaded_last.clear()
    found = load(name, **options)
    if weights_fingerprint(found.hf) != fingerprint:
        raise HeadPursuitError(
            f"{name} has other weights in a worker than here: give all machines the same files; a model that was changed in "
            "memory or quantised takes engine='local'"
        )
    _loaded_last[asked] = found
    return found


def check_model(model: object) -> None:
    """Refuse what is no model, before anything is opened.

    Raises:
        HeadPursuitError: it is neither a model in memory nor a name or folder; of a transformers model, how to wrap it.
    """
    if isinstance(model, nn.Module):
        raise HeadPursuitError(f"{type(model).__name__} is no HeadModel: wrap it with hp.wrap(model, tokenizer)")
    if not isinstance(model, ModelLike):
        raise HeadPursuitError(f"{shown(model)} is no model: give a name, a folder, or what hp.load returns")


def outline(model: str | Path, *, revision: str | None = None, trust_remote_code: bool = False) -> HeadModel:
    """A checkpoint's modules and anatomy by its configuration alone: no weights (the meta device), no processor.

    The anatomy is what the structure claims: nothing has been run, so nothing is proven.

    Raises:
        HeadPursuitError: there is no such model, or its structure is not recognised.
    """
    gguf = find_gguf(model, revision=revision)
    with _as_files(model, gguf, revision=revision, trust_remote_code=trust_remote_code) as (path, common):
        config = AutoConfig.from_pretrained(path, **common)
        _refuse_config(model, config, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            hf = _auto_class(config).from_config(config, trust_remote_code=trust_remote_code)
    source = _source_of(hf, id=str(model), gguf=gguf, folder=local_folder(model, revision=revision))
    return HeadModel(hf=hf, processor=None, anatomy=find_anatomy(hf), source=source)


def local_folder(model: str | Path, *, revision: str | None = None) -> Path | None:
    """The folder that holds a checkpoint's files on this machine, or None; a GGUF file is none."""
    path = Path(_path_of(model))
    return path if path.is_dir() else _cached_folder(str(model), revision)


def whole_folder(name: str, revision: str | None = None) -> Path:
    """The folder of a model of the Hub with all of its files, those included that loading it does not need.

    Files that are not on this machine are downloaded; weights in forms that are not loaded here are not.

    Raises:
        HeadPursuitError: there is no such model, or it cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with opening(name, revision=revision):
        return Path(snapshot_download(name, revision=revision, ignore_patterns=[*OTHER_FORMS, *PICKLES]))


def _path_of(model: str | Path) -> str:
    """The Hub name or folder that transformers is to open."""
    return str(demo_path() if str(model) == "demo" else model)


@contextmanager
def _as_files(
    model: str | Path, gguf: Path | None, *, what: str = "model", revision: str | None, trust_remote_code: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What transformers is to open, and with which options; see :func:`opening`."""
    common: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    with opening(model, what=what, revision=revision), ExitStack() as held:
        if gguf is None:
            yield _path_of(model), common
            return
        folder, named = held.enter_context(given_to_transformers(gguf))
        yield folder, {**common, **named, "revision": None}


def _dequantising() -> dict[str, Any]:
    # Where transformers can keep a GGUF file's weights packed, it is told not to: their columns are looked at and scaled.
    return {"quantization_config": transformers.GgufConfig(dequantize=True)} if hasattr(transformers, "GgufConfig") else {}


def _named(processor: Any, model: str | Path, gguf: Path | None) -> Any:
    if gguf is not None:  # and not by the folder that transformers was given
        processor.name_or_path = str(model)
    return processor


def _source_of(hf: PreTrainedModel, *, id: str, folder: Path | None, gguf: Path | None = None) -> ModelSource:
    if gguf is not None:  # what transformers was given is gone
        hf.config.name_or_path = id
        folder = None
    revision = getattr(hf.config, "_commit_hash", None)
    return ModelSource(id=id, revision=revision, architecture=type(hf).__name__, folder=folder, gguf=gguf)


def _attach(hf: PreTrainedModel, processor: Any, anatomy: Anatomy | None, *, part: Part, source: ModelSource) -> HeadModel:
    if anatomy is None:
        try:
            anatomy = find_anatomy(hf, part=part)
        except HeadPursuitError as error:
            if part != "text":
                raise
            raise HeadPursuitError(f"{error}. {how_to_say(hf)}") from error
    claimed = HeadModel(hf=hf, processor=processor, anatomy=anatomy, source=source)
    claimed.check_paths()
    images = find_image_style(
        processor,
        anatomy.image_token_id,
        beside_text=claimed.encodes_text or not claimed.has_encoder,
        across=claimed.attends_across,
    )
    claimed = replace(claimed, images=images)
    model = claimed.with_anatomy(proven(claimed))
    if model.anatomy.skipped:
        warnings.warn(_skipped_in_words(model), stacklevel=3)
    return model


def _skipped_in_words(model: HeadModel) -> str:
    reasons: dict[str, list[str]] = {}
    for layer in model.anatomy.skipped:
        reasons.setdefault(layer.reason, []).append(f"L{layer.index}")
    named = "; ".join(f"{', '.join(layers)}: {reason}" for reason, layers in reasons.items())
    return f"{model.source.architecture} is taken apart in part; skipped are {named}"


def _with_padding(processor: Any, name: str, *, copied: bool = False) -> Any:
    """A processor whose tokenizer can pad, the caller's own left as it is (``copied``, which takes as long as loading one)."""
    tokenizer = getattr(processor, "tokenizer", processor)
    if tokenizer.pad_token is not None:
        return processor
    if tokenizer.eos_token is None:
        raise HeadPursuitError(
            f"the tokenizer of {name} has neither a padding nor an end-of-sequence token: set tokenizer.pad_token"
        )
    own = copy.deepcopy(processor) if copied else processor
    getattr(own, "tokenizer", own).pad_token = tokenizer.eos_token
    return own


def _auto_class(config: PretrainedConfig) -> Any:
    if config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return AutoModelForImageTextToText
    if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or hasattr(config, "auto_map"):
        return AutoModelForCausalLM
    raise HeadPursuitError(
        f"a model of type {config.model_type!r} has no language-model head, so its heads have no vocabulary to be named in: "
        "load a causal language model or an image-text-to-text model"
    )


def _load_processor(path: str, config: PretrainedConfig, common: dict[str, Any]) -> Any:
    multimodal = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return (AutoProcessor if multimodal else AutoTokenizer).from_pretrained(path, **common)


def _cached_folder(name: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(name, "config.json", revision=revision)
    except ValueError:  # not how a model of the Hub is called
        return None
    return Path(found).parent if isinstance(found, str) else None


@contextmanager
def opening(model: str | Path, *, what: str = "model", revision: str | None = None) -> Iterator[None]:
    """The one boundary around loading: whatever a library raises inside becomes one line with the file and what to do.

    Args:
        model: what is opened.
        what: what it is opened as, for the message.
        revision: commit, branch or tag on the Hub.

    Raises:
        HeadPursuitError: the block raised something.
    """
    try:
        yield
    except HeadPursuitError:
        raise
    except Exception as error:  # libraries raise anything at all, a bare Exception included
        raise HeadPursuitError(_explain(model, error, what=what, revision=revision)) from error


def _explain(model: str | Path, error: Exception, *, what: str, revision: str | None) -> str:
    path, text = Path(_path_of(model)), " ".join(str(error).split())
    if "custom code" in text or "trust_remote_code" in text:
        return f"{model} comes with code of its own, which is not run unless asked: read it, then say trust_remote_code"
    folder = local_folder(model, revision=revision) if what == "model" else None
    fault = None if folder is None else defect(folder)
    if fault is None:
        if not path.exists() and (path.is_absolute() or str(model).startswith((".", "~")) or len(path.parts) > 2):
            text = "there is no such folder"
        reason = text[:_LONGEST] or type(error).__name__
        fault = f"({reason}): give a Hub name, a local folder in the Hub's format, a GGUF file that transformers reads, or demo"
    return f"{model} could not be opened as a {what} {fault}"


def _refuse_config(model: str | Path, config: PretrainedConfig, *, trust_remote_code: bool) -> None:
    """Refuse a configuration that names a kernel of the Hub, which is code that would be fetched and run, or endless layers."""
    for name, value in vars(config).items():
        if isinstance(value, PretrainedConfig):
            _refuse_config(model, value, trust_remote_code=trust_remote_code)
        elif "implementation" in name and "/" in str(value) and not trust_remote_code:
            raise HeadPursuitError(
                f"{model} asks for {str(value)!r:.80}, a kernel of the Hub, which is code that is not run unless asked: "
                "read it, then say trust_remote_code"
            )
        elif name.endswith(("layers", "n_layer", "depth")) and isinstance(value, int) and value > _MOST_LAYERS:
            raise HeadPursuitError(
                f"{model}: config.json says {name} = {value:.3g}, and no model has so many: get the file again"
            )


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device("cuda" if device == "gpu" else device)
    except (RuntimeError, TypeError) as error:
        raise ChoiceError(f"device {str(device)!r:.40}: give cpu, cuda, cuda:1, mps, … or auto") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise HeadPursuitError(f"device {str(device)!r}: this machine has no CUDA device that this torch can use; give cpu")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise HeadPursuitError(f"device {str(device)!r}: this machine has {torch.cuda.device_count()}, counted from cuda:0")
    return found


def _dtype(dtype: str | torch.dtype) -> str | torch.dtype:
    name = str(dtype).removeprefix("torch.")
    found = "auto" if name == "auto" else getattr(torch, _DTYPES.get(name, name), None)
    if found != "auto" and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise ChoiceError(f"dtype {name!r:.40}: give auto, float32, bfloat16 (bf16) or float16 (fp16)")
    return found


def load_tokenizer(model: str | Path, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a checkpoint, without the model.

    Raises:
        HeadPursuitError: there is no such model, or its tokenizer is code that was not asked for.
    """
    gguf = find_gguf(model, revision=revision)
    with _as_files(model, gguf, what="tokenizer", revision=revision, trust_remote_code=trust_remote_code) as (path, common):
        tokenizer = _named(AutoTokenizer.from_pretrained(path, **common), model, gguf)
        # Settings of a wrong type are seen when it is called, which is to be here.
        tokenizer(["a"], add_special_tokens=False)
        return tokenizer
