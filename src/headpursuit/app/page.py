"""The page: gradio's parts, each tied to a step of the visitor's session, and the server that gives it out."""

import html
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from headpursuit.app import session as steps
from headpursuit.app.examples import prepared
from headpursuit.app.playground import Playground, find, open_head
from headpursuit.app.session import Session
from headpursuit.app.view import columns_of, edit_of, head_of, map_of, style, title_of
from headpursuit.app.writing import write
from headpursuit.drawing.style import signed
from headpursuit.editing.edit import load_edit
from headpursuit.editing.where import TOKEN_GROUPS
from headpursuit.errors import HeadPursuitError
from headpursuit.exporting.export import FORMATS, export
from headpursuit.model.heads import Head
from headpursuit.model.samples import Sample
from headpursuit.optional import optional_import

# What the page opens with.
_FIRST = "colours"
_NEW_TOKENS = 48
_PORTS = range(7860, 7960)
_BEST = 3
# A head's name is told to the server; squares of the map are reached by key, too.
_OPENS = """
const name = (one) => one?.closest('[data-head]')?.dataset.head
  ?? one?.closest('path')?.querySelector('title')?.textContent.split(':')[0];
const tell = (event) => {
  const head = name(event.target);
  if (/^L\\d+\\.[A-Z]\\d+$/.test(head ?? '')) trigger('open', {head});
};
const reach = () => element.querySelectorAll('path:has(title)').forEach((one) => one.setAttribute('tabindex', '0'));
element.addEventListener('click', tell);
element.addEventListener('keydown', (event) => { if (event.key === 'Enter' && event.target.tagName === 'path') tell(event); });
reach(); watch('value', reach);
"""


@contextmanager
def started(playground: Playground, *, host: str = "127.0.0.1", port: int | None = None, open: bool = False) -> Iterator[str]:
    """A server of the page inside a ``with`` block, which gives its address.

    Nothing is fetched from elsewhere and nobody is told; what visitors upload is gone when the block is left.

    Args:
        playground: a model with a capture of it.
        host: address to listen at. Whoever reaches it can use the model; by default that is this machine alone.
        port: port to listen at; the first free one from 7860 when left out.
        open: open a browser.

    Raises:
        HeadPursuitError: nothing can listen there.
        MissingExtraError: gradio is not installed.
    """
    gr, port = gradio(), free_port(host, port)
    theme = gr.themes.Base(font="system-ui", font_mono="ui-monospace")  # fonts that are there: others would be fetched
    settings: dict[str, Any] = {
        "share": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "enable_monitoring": False,
    }
    with tempfile.TemporaryDirectory(prefix="headpursuit-app-") as folder, _kept_in(folder):
        blocks = _page(gr, playground, Path(folder)).queue(api_open=False)
        settings |= {"theme": theme, "css": style(), "footer_links": [], "max_file_size": "64mb", "inbrowser": open}
        name = f"[{host}]" if ":" in host else host
        try:
            launched = blocks.launch(server_name=name, server_port=port, prevent_thread_lock=True, quiet=True, **settings)
            yield launched[1]
        except (OSError, ValueError) as error:  # the latter where a proxy stands between
            raise HeadPursuitError(f"nothing can be reached at {host}, port {port}: choose another ({error})") from error
        finally:
            blocks.close(verbose=False)


def free_port(host: str, port: int | None = None) -> int:
    """The port, or the first free one from 7860; gradio looks for minutes where none can be had.

    Raises:
        HeadPursuitError: nothing can listen there.
    """
    reason: OSError | None = None
    try:
        family, *_ = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
        for one in _PORTS if port is None else [port]:
            try:
                with socket.create_server((host, one), family=family):
                    return one
            except OSError as error:
                reason = error
    except (OSError, UnicodeError) as error:
        raise HeadPursuitError(f"{host} is no address to listen at ({error}): give one of this machine's") from error
    raise HeadPursuitError(f"nothing can listen at {host}, port {port or 'any'} ({reason}): choose another") from reason


@contextmanager
def _kept_in(folder: str) -> Iterator[None]:
    """Have gradio put what visitors upload into a folder that goes with the page."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = folder
    try:
        yield
    finally:
        os.environ.pop("GRADIO_TEMP_DIR")
        if before is not None:
            os.environ["GRADIO_TEMP_DIR"] = before


def gradio() -> Any:
    """Gradio, which is to tell nobody that it is used.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    return optional_import("gradio", extra="app", purpose="the playground")


def _page(gr: Any, playground: Playground, folder: Path) -> Any:
    model, takes_images = playground.model, playground.model.images is not None
    first = _first(playground)

    def shown(session: Session) -> list[Any]:
        """What the parts of the page hold for a session, in the order of ``parts``."""
        opened = None if session.opened is None else open_head(playground, session.opened)
        flip = (
            f"Take {session.opened} out of the edit"
            if session.has(session.opened)
            else f"Scale {session.opened} by {signed(session.scale)}"
        )
        return [
            session,
            map_of(session),
            head_of(playground, session, opened),
            gr.update(value=flip, visible=session.opened is not None),
            edit_of(session),
            session.scale,
            gr.update(interactive=bool(session.before)),
            gr.update(value=_saved(session), interactive=session.edit is not None),
            gr.update(interactive=session.edit is not None),
        ]

    def _saved(session: Session) -> str | None:
        if session.edit is None:
            return None
        path = Path(tempfile.mkdtemp(dir=folder)) / "edit.json"
        session.edit.save(path, model=model)
        return str(path)

    def step(take: Callable[..., Session], *inputs: Any) -> dict[str, Any]:
        """An event that takes the session a step further."""

        def run(session: Session, *values: Any) -> list[Any]:
            with _told(gr):
                return shown(take(session, *values))

        return {"fn": run, "inputs": [state, *inputs], "outputs": parts, "api_visibility": "private"}

    def look_up(session: Session, words: str) -> Session:
        return replace(session, found=find(playground, words))

    def load(session: Session, path: str) -> Session:
        return steps.edited(session, load_edit(path, model=model))

    def open_named(session: Session, event: gr.EventData) -> list[Any]:
        with _told(gr):
            return shown(replace(session, opened=Head.parse(event.head)))

    def run(session: Session, text: str, image: Any, n_tokens: float, seed: float) -> Iterator[str]:
        with _told(gr):
            sample = Sample(text=text, image=image, where="the prompt")
            options: dict[str, Any] = {"max_new_tokens": int(n_tokens), "seed": int(seed or 0)}
            for columns in write(playground, sample, edit=session.edit, found=session.found, **options):
                yield columns_of(columns, session.found)

    def export_as(session: Session, format: str) -> Any:
        with _told(gr), playground.lock:
            out = Path(tempfile.mkdtemp(dir=folder)) / ("edited.gguf" if format == "gguf" else f"edited-{format}")
            export(model, session.edit, out, format=format, progress=False)  # type: ignore[arg-type]
            file = out if out.is_file() else shutil.make_archive(str(out), "zip", out)
            return gr.update(value=str(file), visible=True)

    with gr.Blocks(title=f"headpursuit: {model.source.id}", analytics_enabled=False, fill_width=True) as blocks:
        state = gr.State(first)
        gr.HTML(title_of(playground))
        with gr.Row(elem_id="bench"):
            with gr.Column(elem_id="bench-map", min_width=0):
                with gr.Row(equal_height=True):
                    hint = "colours, countries, … or words (red, green, blue)"
                    concept = gr.Textbox(
                        _FIRST if first.found else "", label="Concept", placeholder=hint, scale=3, min_width=180
                    )
                    look = gr.Button("Find heads", variant="primary", min_width=110)
                heads = gr.HTML(map_of(first), js_on_load=_OPENS, elem_id="map")
            with gr.Column(elem_id="bench-head", min_width=0):
                flip = gr.Button("Scale", visible=False, elem_id="flip", size="md")
                card = gr.HTML(head_of(playground, first, None), elem_id="head")
            with gr.Column(elem_id="bench-edit", min_width=0):
                edit = gr.HTML(edit_of(first), js_on_load=_OPENS, elem_id="edit")
                with gr.Row():
                    scale = gr.Slider(
                        -3, 5, first.scale, step=0.5, label="Scale: −1 turns round, 0 removes, 1 leaves", min_width=240
                    )
                    groups = [one for one in TOKEN_GROUPS if takes_images or one != "image"]
                    where = gr.Dropdown(groups, value="all", label="At which tokens", min_width=120)
                with gr.Row(elem_classes="tools"):
                    k = gr.Number(_BEST, minimum=1, precision=0, show_label=False, container=False, min_width=60, elem_id="k")
                    take = gr.Button("Take the best", size="md", min_width=120)
                    undo = gr.Button("Undo", interactive=False, size="md", min_width=80)
                with gr.Row(elem_classes="tools"):
                    save = gr.DownloadButton("Save", interactive=False, size="md", min_width=80)
                    upload = gr.UploadButton("Load", file_types=[".json"], size="md", min_width=80)
                    formats = [one for one in FORMATS if one != "gguf" or model.source.gguf]
                    format = gr.Dropdown(formats, value="lora", show_label=False, container=False, min_width=120)
                    out = gr.Button("Export", interactive=False, size="md", min_width=80)
                file = gr.File(label="Exported", visible=False)
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                prompt = gr.Textbox(label="Prompt", lines=3, placeholder="What the model is asked")
                with gr.Row():
                    n_tokens = gr.Slider(1, 256, _NEW_TOKENS, step=1, label="Tokens to write at most", min_width=180)
                    seed = gr.Number(playground.seed, minimum=0, precision=0, label="Draw of random heads", min_width=120)
            image = gr.Image(
                type="filepath",
                format="png",
                label="Image",
                sources=["upload"],
                height=210,
                visible=takes_images,
                scale=1,
                min_width=220,
            )
        go = gr.Button("Write", variant="primary")
        texts = gr.HTML("", elem_id="texts")
        rows = prepared(playground, folder)
        examples = gr.Examples(
            rows if takes_images else [row[:2] for row in rows],
            [concept, prompt, image] if takes_images else [concept, prompt],
            label="Examples",
            api_visibility="private",
        )
        parts = [state, heads, card, flip, edit, scale, undo, save, out]
        gr.on([look.click, concept.submit], **step(look_up, concept))
        examples.load_input_event.then(**step(look_up, concept))
        for clickable in (heads, edit):
            clickable.open(open_named, [state], parts, api_visibility="private")
        flip.click(**step(steps.flipped))
        take.click(**step(steps.best, k))
        scale.release(**step(steps.scaled, scale, where))
        where.input(**step(steps.scaled, scale, where))
        undo.click(**step(steps.undone))
        upload.upload(**step(load, upload))
        out.click(export_as, [state, format], file, api_visibility="private")
        gr.on([go.click, prompt.submit], run, [state, prompt, image, n_tokens, seed], texts, api_visibility="private")
    return blocks


def _first(playground: Playground) -> Session:
    """The session that a visitor begins with; without a concept where its words are not at hand."""
    try:
        return Session(found=find(playground, _FIRST))
    except HeadPursuitError:
        return Session()


@contextmanager
def _told(gr: Any) -> Iterator[None]:
    """Make a note on the page of what a visitor can mend; it shows HTML, of which a message is none."""
    try:
        yield
    except HeadPursuitError as error:
        raise gr.Error(html.escape(str(error)), title="That did not work", print_exception=False) from error
