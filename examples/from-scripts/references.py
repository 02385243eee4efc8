"""Build the images of the declaration next to this file, and write what they are called.

    python references.py images.env

makes lines such as `GREETER_IMAGE=localhost/greeter:4ca6654d072a0b95`, for whatever comes next in
a pipeline. What was built before is not built again, so that it may be called at any time.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pytest_kindinfra import KindInfraError, build_images, resolve

HERE = Path(__file__).parent


def write_references(target: Path) -> None:
    plan = resolve(folder=HERE, services=["greeter"])
    images = build_images(plan, jobs=2)
    lines = [f"{name.upper()}_IMAGE={one.reference}\n" for name, one in sorted(images.items())]
    target.write_text("".join(lines))


if __name__ == "__main__":
    try:
        write_references(Path(sys.argv[1]))
    except KindInfraError as error:
        sys.exit(f"references: {error}")
