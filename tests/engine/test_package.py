"""What importing ``engine`` sets up."""

import getpass
import importlib
import os

import engine


def test_a_user_without_an_account_gets_a_name(monkeypatch):
    """torchvision's import asks for it."""

    def no_account():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setenv("LOGNAME", "before")
    monkeypatch.setattr(getpass, "getuser", no_account)
    importlib.reload(engine)
    assert os.environ["LOGNAME"] == str(os.getuid())
