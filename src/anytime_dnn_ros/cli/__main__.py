"""`python -m anytime_dnn_ros.cli`."""

import sys

from anytime_dnn_ros.cli import main

sys.exit(main())
