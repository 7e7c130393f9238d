"""How good a ladder is: its curve on labelled images, its calibration, and reports of both."""
