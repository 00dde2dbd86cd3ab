"""Policies: which settings apply to a session, read from YAML once and frozen."""

from __future__ import annotations

from proxy.policy.detect import detect
from proxy.policy.load import load, presets
from proxy.policy.problems import PolicyError, Problem
from proxy.policy.settings import (
    DrainSettings,
    GuardSettings,
    HttpSettings,
    JwksSettings,
    JwtSettings,
    KeySource,
    LimitSettings,
    Policy,
    Route,
    SessionSettings,
    Settings,
    TlsSettings,
    TokenSource,
    UpstreamSettings,
)

__all__ = [
    "DrainSettings",
    "GuardSettings",
    "HttpSettings",
    "JwksSettings",
    "JwtSettings",
    "KeySource",
    "LimitSettings",
    "Policy",
    "PolicyError",
    "Problem",
    "Route",
    "SessionSettings",
    "Settings",
    "TlsSettings",
    "TokenSource",
    "UpstreamSettings",
    "detect",
    "load",
    "presets",
]
