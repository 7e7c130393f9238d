"""The page of an engine's layers."""

import re
import xml.etree.ElementTree as ET

import pytest

pytest.importorskip('matplotlib', reason='matplotlib is not installed (the demo extra)')

from anytime_dnn_ros.engines.engine_layers import parse_layers
from anytime_dnn_ros.evaluate.engine_page import (
    COLORS,
    OTHER,
    engine_page,
    engine_svg,
)
from inspected_engines import IN_8_6, IN_10, IN_11, written

SVG = '{http://www.w3.org/2000/svg}'


def boxes(svg):
    return [
        tuple(int(box.get(side)) for side in ('x', 'y', 'width', 'height'))
        for box in ET.fromstring(svg).iter(f'{SVG}rect')
    ]


def engine_of(*layers):
    """Each layer as (its outputs, its inputs), of letters."""
    document = {
        'Layers': [
            {
                'Name': f'layer {i}',
                'Outputs': [{'Name': n, 'Datatype': 'Half'} for n in outputs],
                'Inputs': [{'Name': n} for n in inputs],
            }
            for i, (outputs, inputs) in enumerate(layers)
        ]
    }
    return parse_layers(written(document), 'graph')


def test_each_layer_is_a_box_in_the_colour_of_what_it_writes():
    svg = engine_svg(parse_layers(written(IN_8_6), 'small'))
    strokes = [box.get('stroke') for box in ET.fromstring(svg).iter(f'{SVG}rect')]
    assert strokes == [COLORS['int8'], COLORS['fp32'], COLORS['fp32']]
    assert len(list(ET.fromstring(svg).iter(f'{SVG}path'))) == 2
    assert OTHER in engine_svg(parse_layers(written(IN_11), 'small'))


def test_a_layer_stands_below_all_that_it_reads_and_boxes_do_not_overlap():
    # A fork that joins again, one that skips, and one that reads nothing.
    engine = engine_of(('a', 'i'), ('b', 'a'), ('c', 'a'), ('d', 'bc'), ('e', 'ad'), ('f', ''))
    placed = boxes(engine_svg(engine))
    tops = [y for _, y, _, _ in placed]
    assert tops[0] == tops[5] < tops[1] == tops[2] < tops[3] < tops[4]
    assert len({(x, y) for x, y, _, _ in placed}) == len(placed)
    width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', engine_svg(engine)).groups())
    assert all(0 <= x <= x + w <= width and 0 <= y <= y + h <= height for x, y, w, h in placed)


def test_a_layer_that_works_in_place_and_a_loop_are_drawn_all_the_same():
    assert len(boxes(engine_svg(engine_of(('a', 'a'), ('b', 'c'), ('c', 'b'))))) == 3


def test_an_engine_without_layers_is_an_empty_picture():
    assert boxes(engine_svg(engine_of())) == []


def test_the_page_holds_every_engine_with_its_table_and_needs_nothing_beside_it():
    engines = [parse_layers(written(d), n) for d, n in ((IN_8_6, 'one <b>'), (IN_10, 'two'))]
    page = engine_page(engines, 'on an Orin', {'tensorrt': '10.3.0'})
    assert page.count('<svg') == 2
    assert 'one &lt;b&gt;' in page
    assert '<b>' not in page
    assert 'on an Orin' in page
    assert '/head/Gemm' in page
    assert not re.search(r'(src|href)="(?!#|data:)', page)
