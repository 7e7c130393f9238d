"""Writes the tables of README.md that the code knows: `python tools/readme_tables.py`.

With `--check` nothing is written; the exit status says whether README.md is up to date.
"""

import re
import sys
from pathlib import Path

from anytime_dnn_ros.forge.networks import NETWORKS
from anytime_dnn_ros.forge.rules import RULES
from anytime_dnn_ros.nodes.anytime_parameters import ANYTIME_PARAMETERS
from anytime_dnn_ros.nodes.images import ENCODINGS
from anytime_dnn_ros.nodes.monitor_node import MONITOR_PARAMETERS
from anytime_dnn_ros.nodes.parameters import markdown_table

README = Path(__file__).resolve().parent.parent / 'README.md'


def tables() -> dict[str, str]:
    """Name of each generated part and its Markdown, ending in a line break."""
    return {
        'anytime_node parameters': markdown_table(ANYTIME_PARAMETERS),
        'monitor_node parameters': markdown_table(MONITOR_PARAMETERS),
        'networks': _listed('network', {name: n.summary for name, n in NETWORKS.items()}),
        'rules': _listed('rule', RULES),
        'encodings': ', '.join(f'`{name}`' for name in ENCODINGS) + '\n',
    }


def _listed(head: str, summaries: dict[str, str]) -> str:
    rows = [f'| `{name}` | {summary} |\n' for name, summary in summaries.items()]
    return f'| {head} | |\n|---|---|\n' + ''.join(rows)


def filled(text: str) -> str:
    """README text with every generated part as the code has it.

    Raises:
        ValueError: A part has no place in the text.
    """
    for name, table in tables().items():
        begin, end = f'<!-- generated: {name} -->\n', '<!-- end -->'
        text, count = re.subn(
            re.escape(begin) + '.*?' + re.escape(end),
            lambda _, part=begin + table + end: part,
            text,
            flags=re.DOTALL,
        )
        if count != 1:
            raise ValueError(f'README.md has {count} places for {name!r}, expected one')
    return text


def main() -> int:
    """Writes README.md, or compares it."""
    text = README.read_text(encoding='utf-8')
    new = filled(text)
    if '--check' in sys.argv[1:]:
        return int(new != text)
    README.write_text(new, encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
