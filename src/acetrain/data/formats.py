"""Audio files that are read and written."""

BY_SOUNDFILE = frozenset({".wav", ".mp3", ".flac", ".ogg", ".opus", ".aiff", ".aif"})
"""Suffixes that libsndfile decodes."""
BY_FFMPEG = frozenset({".m4a", ".aac", ".wma", ".mp4"})
"""Suffixes that the `ffmpeg` command decodes, where there is one."""
AUDIO = BY_SOUNDFILE | BY_FFMPEG
"""Suffixes of songs."""
WRITTEN = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
"""Suffixes that are written -> format and subtype of libsndfile."""
LONGEST = 600
"""Seconds of audio the model was made for."""
