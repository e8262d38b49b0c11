"""The summary of each measurement as a chapter of the page."""

from __future__ import annotations

from facecodec.evaluation.chapters.distortion import distortion
from facecodec.evaluation.chapters.faces import detection, previews, robust, thousand
from facecodec.evaluation.chapters.groups import groups
from facecodec.evaluation.chapters.verification import verification

__all__ = ["detection", "distortion", "groups", "previews", "robust", "thousand", "verification"]
