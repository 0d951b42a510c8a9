"""An application that takes long to load while a file is there."""

import os
import time

while os.path.exists(os.environ["SLOW_BOOT"]):
    time.sleep(0.1)

from plain import app  # noqa: E402, F401
