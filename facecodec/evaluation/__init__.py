"""Measure the codec: rate-distortion beside other formats, verification, face finding (free side)."""
