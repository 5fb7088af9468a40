"""Parts of ``tools/make_wardrobe.py``: people, clothes, places and the camera."""
