"""Shrinks what the examples drew to docs/pictures/, for the gallery and the front page.

    nox -s demo && python docs/_gallery.py        # once the examples were run, in full

Of examples/out/*.png every picture becomes a WebP of at most 900 pixels, some 30 kB.
"""

import pathlib

from PIL import Image

HERE = pathlib.Path(__file__).parent
PICTURES, DRAWN = HERE / "pictures", HERE.parent / "examples" / "out"
SIZE = 900, 900


def main():
    for source in sorted(DRAWN.glob("*.png")):
        target = PICTURES / f"{source.stem}.webp"
        with Image.open(source) as image:
            small = image.convert("RGB")
        small.thumbnail(SIZE)
        small.save(target, quality=70, method=6)
        print(f"{target.name}: {target.stat().st_size / 1000:.0f} kB")
    total = sum(path.stat().st_size for path in PICTURES.iterdir())
    print(f"{total / 1000:.0f} kB in all")


if __name__ == "__main__":
    main()
