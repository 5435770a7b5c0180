"""The strategies that come with the framework."""

from __future__ import annotations

from .alternate import Alternate
from .amdm import AMDM
from .amdm_authors import AMDMAuthors
from .base import AggregationStrategy
from .composable import Composable
from .epsilon_average import EpsilonAverage
from .instance_relay import InstanceRelay
from .linear import Linear
from .relay import Relay
from .single import Single
from .slerp import Slerp
from .superdiff import SuperDiffAnd, SuperDiffOr

BUILTIN_STRATEGIES: tuple[type[AggregationStrategy], ...] = (
    AMDM,
    AMDMAuthors,
    Slerp,
    Linear,
    EpsilonAverage,
    Composable,
    Alternate,
    Relay,
    InstanceRelay,
    SuperDiffAnd,
    SuperDiffOr,
    Single,
)
