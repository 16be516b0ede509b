"""How fast the optimization is, against full SMPL in the same process, and that it gives the same answer."""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or torch's profiler tells the terminal whenever it starts; read once
