"""The table of what holds for which architecture; it comes with the package and is made by ``make architectures``."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from headpursuit.files import read_json, write_json

SUPPORTED, PARTLY, REFUSED, UNTESTED = "supported", "partly", "refused", "untested"
STATES = {
    SUPPORTED: "every attention layer is taken apart into heads, and the contracts hold",
    PARTLY: "the same for the attention layers; what is named is skipped, or is the contract that does not hold",
    REFUSED: "loading it fails with the reason that is given",
    UNTESTED: "no tiny model could be built or run offline; loading it still checks the heads, or refuses",
}
_FILE = Path(__file__).with_name("architectures.json")


@dataclass(frozen=True)
class Architecture:
    """One model type of one of transformers' auto mappings.

    Attributes:
        type: the configuration's ``model_type``.
        mapping: ``causal-lm`` or ``image-text-to-text``.
        state: one of ``STATES``.
        reason: what is skipped, or why it is refused; empty when there is nothing to say.
    """

    type: str
    mapping: str
    state: str
    reason: str


@dataclass(frozen=True)
class Table:
    """The architectures, and the version of transformers that they were tried with."""

    transformers: str
    rows: tuple[Architecture, ...]

    def summary(self) -> str:
        """Number of types in each state, for each mapping, in words."""
        counts = Counter((row.mapping, row.state) for row in self.rows)
        mappings = list(dict.fromkeys(row.mapping for row in self.rows))
        return "; ".join(
            f"{mapping}: {', '.join(f'{counts[mapping, state]} {state}' for state in STATES)}" for mapping in mappings
        )


def load_table() -> Table:
    """The table that came with this version of the package."""
    content = read_json(_FILE)
    return Table(transformers=content["transformers"], rows=tuple(Architecture(**row) for row in content["rows"]))


def save_table(table: Table) -> None:
    """Put a new table into the package's sources."""
    content = {"transformers": table.transformers, "rows": [asdict(row) for row in table.rows]}
    write_json(_FILE, content)


def as_markdown(table: Table) -> str:
    """The table as a page of the documentation."""
    lines = [
        "# Architectures",
        "",
        f"Every type of the two auto mappings of transformers {table.transformers} that write text, built as a tiny",
        "random model from its own configuration and held to the contracts:",
        "",
        "- the heads add up to what attention writes (relative error below 1e-5 in float32);",
        "- silencing a head in the attention kernel silences its slice of what the projection reads, and no other;",
        "- an edit of scale 1 changes no bit, and leaving an edit restores the logits bit for bit;",
        "- a padded batch equals its texts one by one; generation with and without a cache agrees under an edit;",
        "- the logits are in the order of the unembedding's rows times what it reads, so that these rows name directions.",
        "",
        "Made by `make architectures`; `headpursuit models` prints it. What the states mean:",
        "",
        *(f"- **{state}**: {meaning}." for state, meaning in STATES.items()),
        "",
        f"{table.summary()}.",
    ]
    for mapping in dict.fromkeys(row.mapping for row in table.rows):
        lines += ["", f"## {mapping}", "", "| type | state | |", "|---|---|---|"]
        lines += [
            f"| {row.type} | {row.state} | {row.reason.replace('|', '/').replace('<', '&lt;')} |"
            for row in table.rows
            if row.mapping == mapping
        ]
    return "\n".join(lines) + "\n"
