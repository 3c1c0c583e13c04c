"""A labelled source drawn anew, without labels: the pseudo-target of DIDEX (arXiv 2312.01850)."""
