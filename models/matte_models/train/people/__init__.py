"""Synthetic people: bodies, clothes and hair from the CC0 parts of MakeHuman, posed, lit and rendered with exact alpha.

`python -m matte_models.train.people OUT --makehuman DIR --count N` writes clips; see the README beside this package.
"""
