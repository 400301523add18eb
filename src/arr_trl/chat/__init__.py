from .base import ChatFailure, ChatModel, ChatReply, ChatRequest, ChatUsage
from .http import HTTPChatModel


__all__ = ["ChatFailure", "ChatModel", "ChatReply", "ChatRequest", "ChatUsage", "HTTPChatModel"]
