"""Everything that trains, runs and evaluates the two networks."""

import getpass
import os

# torchvision asks for the user's name when it is imported, and fails in a container that runs as a
# user without an account (docker run --user 1000).
try:
    getpass.getuser()
except (KeyError, OSError):
    os.environ["LOGNAME"] = str(os.getuid())
