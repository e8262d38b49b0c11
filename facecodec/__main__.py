"""``python -m facecodec`` is ``fsc``."""

from facecodec.cli import main

main(prog_name="fsc")
