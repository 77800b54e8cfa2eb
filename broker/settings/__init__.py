"""Settings of a broker: declaration (`schema`), reading from their sources (`load`), printing (`show`)."""

from __future__ import annotations

from broker.settings.keys import ConfigType, Listener
from broker.settings.load import SettingsError, load, settings_of
from broker.settings.schema import SETTINGS, Settings, Source

__all__ = ["SETTINGS", "ConfigType", "Listener", "Settings", "SettingsError", "Source", "load", "settings_of"]
