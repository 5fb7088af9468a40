"""One script a job. A package only so that scripts find their helper modules under this name."""
