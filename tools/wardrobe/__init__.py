"""Parts of ``tools/make_wardrobe.py``: the people, the clothes, the places and the camera."""
