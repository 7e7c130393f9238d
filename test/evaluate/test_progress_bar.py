"""The bar of a run over images."""

import io
import threading

from rich.console import Console

from anytime_dnn_ros.evaluate.progress_bar import image_progress


def test_a_bar_per_ladder_counts_images_and_no_thread_redraws_it():
    text = io.StringIO()
    before = threading.active_count()
    with image_progress(Console(file=text, force_terminal=True, width=120)) as progress:
        for done in range(1, 401):
            progress('one', done, 400)
        progress('two', 0, 300)
        progress('two', 30, 300)
        assert threading.active_count() == before
        shown = text.getvalue()
    assert '400/400' in shown
    assert '30/300' in shown
    assert 'one' in shown
    # Redrawn once per percent, not once per image.
    assert '397/400' not in shown
    assert '396/400' in shown
