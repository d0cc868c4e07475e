"""A small model that says one thing, for `transformers serve`: a real checkpoint whose weights are set by hand.

Attention and feed-forward layers write nothing, so the residual stream is the last token's embedding, and the unembedding
makes of it the next token of a chain: whatever is asked, the chain is the answer.
"""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import tiny

ASKED = "<answer>"
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}" + ASKED


def save_chain(folder: Path, pieces: list[str]) -> None:
    """Save a chat model that answers with these pieces of text, each of which becomes one token."""
    tokenizer = copy.deepcopy(tiny.tokenizer())
    tokenizer.add_tokens([ASKED, *pieces])
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    options: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "max_position_embeddings": 2048,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    }
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**options)).eval()
    chain = [*tokenizer.convert_tokens_to_ids([ASKED, *pieces]), tokenizer.eos_token_id]
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        rows = torch.nn.functional.normalize(torch.randn(len(tokenizer), 128), dim=1)
        model.model.embed_tokens.weight.copy_(rows)
        model.lm_head.weight.zero_()
        for token, following in pairwise(chain):
            model.lm_head.weight[following] += rows[token]
    model.save_pretrained(folder)


@contextmanager
def serve(model: Path, log: Path) -> Iterator[str]:
    """Run `transformers serve` on a free port of this machine; gives the endpoint's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"},
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", server, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    # Seconds on a quiet machine; the imports alone take a minute on a busy one.
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server stopped: {log.read_text()[-2000:]}")
        try:
            with opener.open(address, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"the server did not come up: {log.read_text()[-2000:]}")
