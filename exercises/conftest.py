"""Nobody learns where exercises are checked: what nbval answers is not to stand among a learner's own answers."""

import os

os.environ["CHATLAB_RECORDS"] = "off"
