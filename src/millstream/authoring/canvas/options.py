"""The options of signatures: which of them say how a node runs, which go to the job, and which mean nothing here."""

from __future__ import annotations

from millstream.model.policy import Policy

JOB_OPTIONS = frozenset({"countdown", "eta", "expires", "priority"})
"""Of the options of the whole canvas, those that go to its job; inside a canvas they hold for the node."""

RENAMED = {"time_limit": "timeout", "soft_time_limit": "soft_timeout", "max_retries": "retries"}
"""Celery's names of policies."""

NODE_OPTIONS = frozenset(
    {*Policy.__struct_fields__, *RENAMED, "countdown", "eta", "headers", "link", "link_error", "task_id"}
)
"""What has a meaning for a node."""

BROKER_OPTIONS = frozenset(
    {
        "add_to_parent",
        "chain",
        "chord",
        "compression",
        "connection",
        "content_encoding",
        "content_type",
        "delivery_mode",
        "exchange",
        "exchange_type",
        "group_id",
        "group_index",
        "ignore_result",
        "immediate",
        "interval",
        "mandatory",
        "parent_id",
        "producer",
        "publisher",
        "reply_to",
        "result_cls",
        "retry",
        "retry_policy",
        "root_id",
        "route_name",
        "router",
        "routing_key",
        "serializer",
        "shadow",
    }
)
"""What speaks of messages, brokers and result backends, of which there are none: refused, unless it is dropped."""
