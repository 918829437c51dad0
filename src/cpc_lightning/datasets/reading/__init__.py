"""Reading what lies on disk: image files, idx files, pickles, lists and label files."""
