"""Invertible transformers of pixel values."""

from skdistill.preprocessing._scaler import ChannelScaler
from skdistill.preprocessing._whitener import ZCAWhitener

__all__ = ["ChannelScaler", "ZCAWhitener"]
