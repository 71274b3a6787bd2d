"""What can go wrong between edgematrix and its store, beside the errors that both sides share.

InfrastructureError
├── DatabaseUnreachable      no connection, or it broke
├── DatabaseBusy             another process held the write lock for too long
├── DatabaseDamaged          the file is not a database, or no longer a whole one
├── ArtifactMissing          no artifact of that digest in the store
├── ArtifactsUnreachable     the artifact store does not answer
└── TraceDamaged             the bytes are not the Parquet that was written
ConfigurationError
├── DatabaseUrlInvalid       an address that is no database edgematrix can use
├── DatabaseTooNew           the database was written by a newer edgematrix
├── DatabaseForeign          the database holds tables that are not ours
└── ArtifactsUrlInvalid      an address that is no artifact store edgematrix can use
InternalError
├── ResultExists             a job already has its one result
└── ResultMissing            a job has no result whose metrics could be replaced
"""

from __future__ import annotations

from agent.errors import ConfigurationError, InfrastructureError, InternalError


class DatabaseUnreachable(InfrastructureError):
    code = "database_unreachable"


class DatabaseBusy(InfrastructureError):
    code = "database_busy"


class DatabaseDamaged(InfrastructureError):
    code = "database_damaged"


class ArtifactMissing(InfrastructureError):
    code = "artifact_missing"


class ArtifactsUnreachable(InfrastructureError):
    code = "artifacts_unreachable"


class TraceDamaged(InfrastructureError):
    code = "trace_damaged"


class DatabaseUrlInvalid(ConfigurationError):
    code = "database_url_invalid"


class DatabaseTooNew(ConfigurationError):
    code = "database_too_new"


class DatabaseForeign(ConfigurationError):
    code = "database_foreign"


class ArtifactsUrlInvalid(ConfigurationError):
    code = "artifacts_url_invalid"


class ResultExists(InternalError):
    code = "result_exists"


class ResultMissing(InternalError):
    code = "result_missing"
