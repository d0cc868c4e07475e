"""The page: gradio's parts, each tied to a step of the visitor's session, and the server that gives it out."""

import html
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from headpursuit.app import session as steps
from headpursuit.app.examples import prepared
from headpursuit.app.playground import Playground, find, open_head, open_playground
from headpursuit.app.session import Session
from headpursuit.app.view import columns_of, edit_of, head_of, map_of, style
from headpursuit.app.writing import write
from headpursuit.editing.edit import load_edit
from headpursuit.editing.where import TOKEN_GROUPS
from headpursuit.errors import HeadPursuitError
from headpursuit.exporting.export import FORMATS, export
from headpursuit.model.heads import Head
from headpursuit.model.samples import Sample, Samples
from headpursuit.optional import optional_import

# What the page opens with.
_FIRST = "colours"
_NEW_TOKENS = 48
# A head's name is told to the server; squares of the map are reached by key, too.
_OPENS = """
const name = (one) => one?.closest('[data-head]')?.dataset.head
  ?? one?.closest('path')?.querySelector('title')?.textContent.split(':')[0];
const tell = (event) => { const head = name(event.target); if (/^L\\d+\\.[A-Z]\\d+$/.test(head ?? '')) trigger('open', {head}); };
const reach = () => element.querySelectorAll('path:has(title)').forEach((one) => one.setAttribute('tabindex', '0'));
element.addEventListener('click', tell);
element.addEventListener('keydown', (event) => { if (event.key === 'Enter' && event.target.tagName === 'path') tell(event); });
reach(); watch('value', reach);
"""


def serve(
    model: str | Path = "demo",
    *,
    capture: str | Path | None = None,
    samples: Samples | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    open: bool = True,
    progress: bool = True,
    **options: Any,
) -> None:
    """Give out a page on which a model's heads are found, scaled and heard, until a signal ends it.

    Args:
        model: what :func:`headpursuit.load` takes.
        capture: folder of a capture of it; see :func:`headpursuit.app.playground.open_playground`.
        samples: the samples of the capture, or to be captured.
        host: address to listen at. Whoever reaches it can use the model; by default that is this machine alone.
        port: port to listen at; the first free one from 7860 when left out.
        open: open a browser.
        progress: show progress bars.
        **options: those of :func:`headpursuit.load`.

    Raises:
        HeadPursuitError: no such model or capture, or nothing can listen there.
        MissingExtraError: gradio is not installed.
    """
    _gradio()
    playground = open_playground(model, capture=capture, samples=samples, progress=progress, **options)
    with started(playground, host=host, port=port, open=open) as address:
        print(f"{playground.model.source.id} at {address} (Ctrl-C ends it)", flush=True)
        while True:
            time.sleep(1)


@contextmanager
def started(
    playground: Playground, *, host: str = "127.0.0.1", port: int | None = None, open: bool = False
) -> Iterator[str]:
    """A server of the page inside a ``with`` block, which gives its address; see :func:`serve`."""
    gr = _gradio()
    theme = gr.themes.Base(font="system-ui", font_mono="ui-monospace")  # fonts that are there: others would be fetched
    settings = {"share": False, "ssr_mode": False, "pwa": False, "mcp_server": False, "enable_monitoring": False}
    with tempfile.TemporaryDirectory(prefix="headpursuit-app-") as folder, _kept_in(folder):
        blocks = _page(gr, playground, Path(folder)).queue(api_open=False)
        look = {"theme": theme, "css": style(), "footer_links": [], "quiet": True}
        try:
            launched = blocks.launch(
                server_name=host, server_port=port, inbrowser=open, prevent_thread_lock=True, **settings, **look
            )
            yield launched[1]
        except OSError as error:
            raise HeadPursuitError(f"nothing can listen at {host}, port {port or 'any'} ({error}): choose another") from error
        finally:
            blocks.close(verbose=False)


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


def _gradio() -> Any:
    """Gradio, which is to tell nobody that it is used."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    return optional_import("gradio", extra="app", purpose="the playground")


def _page(gr: Any, playground: Playground, folder: Path) -> Any:
    model, takes_images = playground.model, playground.model.images is not None
    first = _first(playground)

    def shown(session: Session) -> list[Any]:
        """What the parts of the page hold for a session, in the order of ``parts``."""
        opened = None if session.opened is None else open_head(playground, session.opened)
        flip = f"Take {session.opened} out of the edit" if session.has(session.opened) else f"Scale {session.opened}"
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
            options: dict[str, Any] = {"max_new_tokens": int(n_tokens), "seed": int(seed)}
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
        gr.HTML(_head_line(playground))
        with gr.Row():
            with gr.Column(scale=3, min_width=340):
                with gr.Row(equal_height=True):
                    hint = "a packaged concept (colours, countries, …) or words (red, green, blue)"
                    concept = gr.Textbox(_FIRST if first.found else "", label="Concept", placeholder=hint, scale=4, min_width=180)
                    look = gr.Button("Find its heads", variant="primary", scale=1, min_width=130)
                heads = gr.HTML(map_of(first), js_on_load=_OPENS, elem_id="map")
            with gr.Column(scale=2, min_width=320):
                card = gr.HTML(head_of(playground, first, None), elem_id="head")
                flip = gr.Button("Scale", visible=False, elem_id="flip")
        with gr.Group():
            edit = gr.HTML(edit_of(first), js_on_load=_OPENS, elem_id="edit", padding=True)
            with gr.Row(equal_height=True):
                scale = gr.Slider(-3, 5, first.scale, step=0.5, label="Scale", info="1 changes nothing, 0 removes, −1 turns round", min_width=220)
                groups = [one for one in TOKEN_GROUPS if takes_images or one != "image"]
                where = gr.Dropdown(groups, value="all", label="Tokens", min_width=120)
                k = gr.Number(3, minimum=1, precision=0, label="Best heads", min_width=100)
                take = gr.Button("Take the best", min_width=120)
                undo = gr.Button("Undo", interactive=False, min_width=90)
            with gr.Row(equal_height=True):
                save = gr.DownloadButton("Save the edit", interactive=False, min_width=120)
                upload = gr.UploadButton("Load an edit", file_types=[".json"], min_width=120)
                format = gr.Dropdown([one for one in FORMATS if one != "gguf" or model.source.gguf], value="lora", label="Export as", min_width=120)
                out = gr.Button("Export", interactive=False, min_width=90)
            file = gr.File(label="Exported", visible=False)
        with gr.Row():
            with gr.Column(scale=4, min_width=320):
                prompt = gr.Textbox(label="Prompt", lines=3, placeholder="What the model is asked")
                with gr.Row(equal_height=True):
                    n_tokens = gr.Slider(1, 256, _NEW_TOKENS, step=1, label="Tokens to write at most", min_width=180)
                    seed = gr.Number(0, minimum=0, precision=0, label="Draw of random heads", min_width=120)
                go = gr.Button("Write", variant="primary")
            image = gr.Image(type="pil", label="Image", sources=["upload", "clipboard"], height=230, visible=takes_images, scale=1, min_width=220)
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


def _head_line(playground: Playground) -> str:
    model, acts = playground.model, playground.acts
    name, heads = html.escape(model.source.id), len(acts.heads())
    return (
        f'<div class="hp"><h1>{name}</h1><p>{heads} attention heads in {len(acts.layers)} layers, each seen on {acts.n} rows '
        f"({html.escape(acts.positions)} tokens). Find the heads that write a concept, scale them, and read what changes.</p></div>"
    )


@contextmanager
def _told(gr: Any) -> Iterator[None]:
    """Make a note on the page of what a visitor can mend; it shows HTML, of which a message is none."""
    try:
        yield
    except HeadPursuitError as error:
        raise gr.Error(html.escape(str(error)), title="That did not work", print_exception=False) from error
