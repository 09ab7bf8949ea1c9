"""Audio files that are read and written."""

READ = frozenset({".wav", ".mp3", ".flac", ".ogg", ".opus", ".aiff", ".aif"})
"""Suffixes that are decoded."""
UNREAD = frozenset({".m4a", ".aac", ".wma", ".mp4"})
"""Suffixes of audio that cannot be decoded: such a song is not left out in silence."""
WRITTEN = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
"""Suffixes that are written -> format and subtype of libsndfile."""
LONGEST = 600
"""Seconds of audio the model was made for."""
