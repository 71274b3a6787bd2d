"""The Celery application. Tasks are nudges of milliseconds to seconds; SQL is the truth, so losing one is better than doubling one.

No countdown, no priority, no chord: when something is due, what goes first and what is complete stand in SQL. A message that waits in
Redis for longer than the visibility timeout would be delivered again and again.
"""

from __future__ import annotations

from celery import Celery

#: A nudge older than this is pointless: the scheduler has sent newer ones. Celery has no setting for it; it goes with each message.
NUDGE_EXPIRES_SECS = 60.0
#: Seconds after which Redis hands an unacknowledged message to another worker. No task lasts nearly that long.
VISIBILITY_TIMEOUT_SECS = 300


def queue_of(gateway: str) -> str:
    """The one queue a gateway owns."""
    return f"gateway.{gateway}"


def make_app(redis_url: str) -> Celery:
    """Build the application for one Redis."""
    app = Celery("edgematrix", broker=redis_url, set_as_current=False)
    # Redis takes the shortest timeout of all apps on it, from whichever of the three places; they must agree.
    transport = {
        "visibility_timeout": VISIBILITY_TIMEOUT_SECS,
        # The default waits for ever on a dead peer; the next two notice one that vanished without a word, on an idle connection, too.
        "socket_timeout": 10.0,
        "socket_keepalive": not redis_url.startswith("redis+socket"),
        "health_check_interval": 15,
    }
    app.conf.update(
        visibility_timeout=VISIBILITY_TIMEOUT_SECS,
        broker_transport_options=transport,
        result_backend_transport_options=transport,
        # A killed worker's message comes back; drive is re-entrant, so twice is harmless.
        task_acks_late=True,
        # True would redeliver a message that kills its worker for ever.
        task_reject_on_worker_lost=False,
        # With prefetched messages one busy slot would hold back its neighbours' jobs.
        worker_prefetch_multiplier=1,
        # True would kill a drive in the middle when Redis restarts, and never run it again.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # Results live in SQL; a result backend would only be a second truth.
        task_ignore_result=True,
        # A worker outlives its Redis, however long that is away, also at the start: after a power cut nobody knows which comes up first.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A scheduler whose Redis is away must not hang in publish: the next tick tries again.
        task_publish_retry=False,
        # Whoever can write to Redis must not be able to run code on a gateway.
        task_serializer="json",
        accept_content=["json"],
        # Our own logs say what happens; Celery's would print each nudge.
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # Commands to workers by broadcast, and events that nobody reads: each a queue more that Redis would have to keep.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
    )
    return app
