"""The exceptions streamstyle raises; catch :class:`StreamstyleError` for all of them.

::

    StreamstyleError
    ├── InputError          the input cannot be used: missing, not a video, no frames, a size we refuse
    ├── OutputError         the output cannot be written: exists, no permission, disk full, a container we do not know
    ├── OptionError         an option or a Look is wrong: unknown style, number out of range, a point on no object
    ├── WeightsError        weights cannot be fetched, do not match their hash, or are not of a network we know
    ├── DeviceError         the device asked for is not there
    └── ShapeError          a tensor with the wrong shape, dtype, layout or device reached a stage

Every message is one line and says what, where, and the mend. The command line prints it alone and exits with status 2.
"""

from __future__ import annotations


class StreamstyleError(Exception):
    """Base of every error streamstyle raises on purpose."""


class InputError(StreamstyleError):
    """The input cannot be used."""


class OutputError(StreamstyleError):
    """The output cannot be written."""


class OptionError(StreamstyleError):
    """An option or a Look is wrong."""


class WeightsError(StreamstyleError):
    """Weights cannot be fetched, do not match their hash, or are not of a network we know."""


class DeviceError(StreamstyleError):
    """The device asked for is not there."""


class ShapeError(StreamstyleError, ValueError):
    """A tensor with the wrong shape, dtype, memory layout or device reached a stage."""
