"""The type checker that jaxtyping's import hook decorates the package with."""

from beartype import BeartypeConf, beartype

typed = beartype(conf=BeartypeConf(is_pep484_tower=True))
