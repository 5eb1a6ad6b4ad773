"""Invertible transformers of pixel values."""

from skdistill.preprocessing._scaler import ChannelScaler

__all__ = ["ChannelScaler"]
