"""Shrinks what the examples drew to docs/pictures/, for the gallery and the front page.

    nox -s demo && python docs/_gallery.py        # once the examples were run, in full

Of examples/out/*.png every picture becomes a WebP of at most 900 pixels, some 30 kB.
"""

import pathlib

import numpy as np
from PIL import Image
from scipy import ndimage

HERE = pathlib.Path(__file__).parent
PICTURES, DRAWN = HERE / "pictures", HERE.parent / "examples" / "out"
SIZE = 900, 900
# A dark page inverts every figure but these, so they must have no white of their own.
PHOTOS = {"gan_faces"}
WHITE, GREY, TITLE = 245, 128, 20  # levels; more pixels than a title is high


def cut_out(image):
    """Photographs as they are, their titles grey, and nothing around them."""
    light = np.asarray(image.convert("L"))
    alpha, colours = 255 - light, np.full((*light.shape, 3), GREY, np.uint8)
    for part in ndimage.find_objects(ndimage.label(light < WHITE)[0]):
        if min(of.stop - of.start for of in part) > TITLE:
            colours[part], alpha[part] = np.asarray(image)[part], 255
    return Image.fromarray(np.dstack([colours, alpha]))


def main():
    for source in sorted(DRAWN.glob("*.png")):
        target = PICTURES / f"{source.stem}.webp"
        with Image.open(source) as image:
            small = image.convert("RGB")
        small.thumbnail(SIZE)
        small = cut_out(small) if source.stem in PHOTOS else small
        small.save(target, quality=70, method=6)
        print(f"{target.name}: {target.stat().st_size / 1000:.0f} kB")
    total = sum(path.stat().st_size for path in PICTURES.iterdir())
    print(f"{total / 1000:.0f} kB in all")


if __name__ == "__main__":
    main()
