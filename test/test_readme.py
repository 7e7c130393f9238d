"""README.md says what the code does: its tables, its topics and its files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / 'README.md').read_text(encoding='utf-8')


def test_the_generated_tables_are_those_of_the_code():
    command = [sys.executable, str(ROOT / 'tools' / 'readme_tables.py'), '--check']
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, (
        f'run `python tools/readme_tables.py` and commit README.md\n{outcome.stderr}'
    )


def test_every_topic_of_the_node_is_in_the_table():
    source = (ROOT / 'src/anytime_dnn_ros/nodes/anytime_node.py').read_text(encoding='utf-8')
    topics = set(re.findall(r"'(~/\w+)'", source))
    assert topics, 'the pattern finds the topics'
    assert {topic for topic in topics if f'`{topic}`' not in README} == set()


@pytest.mark.parametrize('link', sorted(set(re.findall(r'\]\(([^)#:]+)\)', README))))
def test_links_lead_to_files_of_the_repository(link):
    assert (ROOT / link).exists()
