"""The errors raykafka raises: Kafka's whole table, and those of clients and storage.

Names, codes and the two flags follow ``org.apache.kafka.common.protocol.Errors``: constant
``NOT_LEADER_OR_FOLLOWER`` is ``NotLeaderOrFollowerError`` (a closing ``_ERROR`` or ``_EXCEPTION``
is not doubled). ``retriable`` is Kafka's ``RetriableException``: the same request may succeed yet.
``refresh_metadata`` is its ``InvalidMetadataException``: get fresh metadata before trying again.

Every error takes one positional message and survives pickling, so that Ray can carry it between
processes. Codes from 20,000 are raykafka's own on the wire; codes below -1 never leave a client.
"""

from __future__ import annotations

from typing import ClassVar

ERRORS_BY_CODE: dict[int, type[RaykafkaError]] = {}
"""Every error that has a code."""


class RaykafkaError(Exception):
    """Base of everything raykafka raises; without a message it says what its docstring says."""

    code: ClassVar[int] = -1
    """Number on the wire."""
    retriable: ClassVar[bool] = False
    """Whether the same request may succeed when it is sent again."""
    refresh_metadata: ClassVar[bool] = False
    """Whether the sender's view of the cluster is stale and has to be refreshed first."""

    def __init_subclass__(
        cls,
        code: int | None = None,
        retriable: bool | None = None,
        refresh_metadata: bool | None = None,
    ) -> None:
        super().__init_subclass__()
        if retriable is not None:
            cls.retriable = retriable
        if refresh_metadata is not None:
            cls.refresh_metadata = refresh_metadata
        if code is not None:
            if code in ERRORS_BY_CODE:
                other = ERRORS_BY_CODE[code].__name__
                raise TypeError(f"{cls.__name__} reuses code {code} of {other}")
            cls.code = code
            ERRORS_BY_CODE[code] = cls

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self._summary())

    @property
    def message(self) -> str:
        """What happened and what to do about it."""
        return str(self.args[0])

    @classmethod
    def _summary(cls) -> str:
        return (cls.__doc__ or cls.__name__).partition("\n")[0]


class KafkaError(RaykafkaError):
    """An error with a code: it can be the answer to a request."""


class RetriableError(KafkaError, retriable=True):
    """The same request may succeed when it is sent again."""


class StaleMetadataError(RetriableError, refresh_metadata=True):
    """The request may succeed once the metadata have been refreshed."""


# fmt: off
# One row per error: name, parent (its flags), code; then the message used where none is given.

class UnknownServerError(KafkaError, code=-1):
    """The server failed in a way it did not foresee; its log tells more."""
class OffsetOutOfRangeError(KafkaError, code=1):
    """The offset is outside the log; seek to the beginning, the end or an offset in between."""
class CorruptMessageError(RetriableError, code=2):
    """A batch failed its CRC, lies about its size or is otherwise not a batch; send it again."""
class UnknownTopicOrPartitionError(StaleMetadataError, code=3):
    """The topic or partition does not exist, or this server does not hold it."""
class InvalidFetchSizeError(KafkaError, code=4):
    """The fetch size is not valid; ask for a positive number of bytes."""
class LeaderNotAvailableError(StaleMetadataError, code=5):
    """The partition has no leader at the moment; an election is under way."""
class NotLeaderOrFollowerError(StaleMetadataError, code=6):
    """This server no longer leads or follows the partition; refresh the metadata."""
class RequestTimedOutError(RetriableError, code=7):
    """The request was not answered in time; it may or may not have taken effect."""
class BrokerNotAvailableError(KafkaError, code=8):
    """The broker is not available."""
class ReplicaNotAvailableError(StaleMetadataError, code=9):
    """The replica is not available for this partition."""
class MessageTooLargeError(KafkaError, code=10):
    """The batch exceeds the topic's max.message.bytes; send less at once or raise the limit."""
class StaleControllerEpochError(KafkaError, code=11):
    """The controller has moved to another broker."""
class OffsetMetadataTooLargeError(KafkaError, code=12):
    """The metadata committed with the offset is too large."""
class NetworkError(StaleMetadataError, code=13):
    """The server closed the connection before it answered."""
class CoordinatorLoadInProgressError(RetriableError, code=14):
    """The coordinator is still replaying its log."""
class CoordinatorNotAvailableError(RetriableError, code=15):
    """The coordinator is not available."""
class NotCoordinatorError(RetriableError, code=16):
    """This server is not the coordinator asked for."""
class InvalidTopicError(KafkaError, code=17):
    """The topic name is not valid, or the operation is not allowed on this topic."""
class RecordListTooLargeError(KafkaError, code=18):
    """The batch is larger than the topic's segment.bytes."""
class NotEnoughReplicasError(RetriableError, code=19):
    """Fewer replicas are in sync than min.insync.replicas asks for; nothing was written."""
class NotEnoughReplicasAfterAppendError(RetriableError, code=20):
    """The batch was written, but to fewer in-sync replicas than required."""
class InvalidRequiredAcksError(KafkaError, code=21):
    """acks must be 0, 1 or all."""
class IllegalGenerationError(KafkaError, code=22):
    """The group generation is not the current one; rejoin the group."""
class InconsistentGroupProtocolError(KafkaError, code=23):
    """The member shares no assignment protocol with the group's other members."""
class InvalidGroupIdError(KafkaError, code=24):
    """The group id is not valid."""
class UnknownMemberIdError(KafkaError, code=25):
    """The coordinator does not know this member; rejoin the group."""
class InvalidSessionTimeoutError(KafkaError, code=26):
    """The session timeout is outside the range the broker allows."""
class RebalanceInProgressError(KafkaError, code=27):
    """The group is rebalancing; rejoin it."""
class InvalidCommitOffsetSizeError(KafkaError, code=28):
    """The committed offset data is too large."""
class TopicAuthorizationFailedError(KafkaError, code=29):
    """The principal may not do this to the topic."""
class GroupAuthorizationFailedError(KafkaError, code=30):
    """The principal may not do this to the group."""
class ClusterAuthorizationFailedError(KafkaError, code=31):
    """The peer did not prove the cluster's secret, or may not do this."""
class InvalidTimestampError(KafkaError, code=32):
    """The record's timestamp is out of the range the topic accepts."""
class UnsupportedSaslMechanismError(KafkaError, code=33):
    """The server does not support this SASL mechanism."""
class IllegalSaslStateError(KafkaError, code=34):
    """The request is not allowed in the current state of authentication."""
class UnsupportedVersionError(KafkaError, code=35):
    """The server does not support this version of the API; upgrade the older side."""
class TopicAlreadyExistsError(KafkaError, code=36):
    """A topic of this name already exists."""
class InvalidPartitionsError(KafkaError, code=37):
    """The number of partitions is not valid."""
class InvalidReplicationFactorError(KafkaError, code=38):
    """The replication factor is below 1 or above the number of live brokers."""
class InvalidReplicaAssignmentError(KafkaError, code=39):
    """The assignment of replicas is not valid."""
class InvalidConfigError(KafkaError, code=40):
    """A configuration key or value is not valid."""
class NotControllerError(RetriableError, code=41):
    """This server is not the active controller."""
class InvalidRequestError(KafkaError, code=42):
    """The request makes no sense to the server; its message says what is wrong."""
class UnsupportedForMessageFormatError(KafkaError, code=43):
    """The format of the stored records does not support the request."""
class PolicyViolationError(KafkaError, code=44):
    """The request violates a policy of the cluster."""
class OutOfOrderSequenceNumberError(KafkaError, code=45):
    """A batch of this producer is missing before this one."""
class DuplicateSequenceNumberError(KafkaError, code=46):
    """The batch was already written by this producer."""
class InvalidProducerEpochError(KafkaError, code=47):
    """A newer producer uses the same producer id; this one must close."""
class InvalidTxnStateError(KafkaError, code=48):
    """The transaction is not in a state that allows this operation."""
class InvalidProducerIdMappingError(KafkaError, code=49):
    """The producer id does not belong to the transactional id."""
class InvalidTransactionTimeoutError(KafkaError, code=50):
    """The transaction timeout is larger than the broker allows."""
class ConcurrentTransactionsError(RetriableError, code=51):
    """Another operation on the same transaction is still under way."""
class TransactionCoordinatorFencedError(KafkaError, code=52):
    """A newer transaction coordinator is in charge of the producer."""
class TransactionalIdAuthorizationFailedError(KafkaError, code=53):
    """The principal may not use the transactional id."""
class SecurityDisabledError(KafkaError, code=54):
    """Security features are switched off."""
class OperationNotAttemptedError(KafkaError, code=55):
    """An earlier operation of the same request failed, so this one was not tried."""
class KafkaStorageError(StaleMetadataError, code=56):
    """The disk or the log directory failed."""
class LogDirNotFoundError(KafkaError, code=57):
    """The log directory is not one of the broker's."""
class SaslAuthenticationFailedError(KafkaError, code=58):
    """SASL authentication failed."""
class UnknownProducerIdError(KafkaError, code=59):
    """The broker has no state for the producer id, as after its records were deleted."""
class ReassignmentInProgressError(KafkaError, code=60):
    """A reassignment of the partition is under way."""
class DelegationTokenAuthDisabledError(KafkaError, code=61):
    """Delegation tokens are switched off."""
class DelegationTokenNotFoundError(KafkaError, code=62):
    """The delegation token is not known."""
class DelegationTokenOwnerMismatchError(KafkaError, code=63):
    """The principal is neither owner nor renewer of the token."""
class DelegationTokenRequestNotAllowedError(KafkaError, code=64):
    """Delegation tokens cannot be managed over this kind of connection."""
class DelegationTokenAuthorizationFailedError(KafkaError, code=65):
    """The principal may not use the delegation token."""
class DelegationTokenExpiredError(KafkaError, code=66):
    """The delegation token has expired."""
class InvalidPrincipalTypeError(KafkaError, code=67):
    """The type of principal is not supported."""
class NonEmptyGroupError(KafkaError, code=68):
    """The group still has members."""
class GroupIdNotFoundError(KafkaError, code=69):
    """The group does not exist."""
class FetchSessionIdNotFoundError(RetriableError, code=70):
    """The fetch session is not known; open a new one."""
class InvalidFetchSessionEpochError(RetriableError, code=71):
    """The fetch session's epoch is not the expected one; open a new session."""
class ListenerNotFoundError(StaleMetadataError, code=72):
    """The leader has no listener that matches the one asked."""
class TopicDeletionDisabledError(KafkaError, code=73):
    """Deleting topics is switched off."""
class FencedLeaderEpochError(StaleMetadataError, code=74):
    """The leader epoch of the request is older than the server's; refresh the metadata."""
class UnknownLeaderEpochError(RetriableError, code=75):
    """The leader epoch of the request is newer than the server's."""
class UnsupportedCompressionTypeError(KafkaError, code=76):
    """The codec is not supported; use none, lz4 or zstd."""
class StaleBrokerEpochError(KafkaError, code=77):
    """The broker epoch has changed; the broker must register again."""
class OffsetNotAvailableError(RetriableError, code=78):
    """The new leader's high watermark has not caught up yet."""
class MemberIdRequiredError(KafkaError, code=79):
    """The member needs an id before it can join the group."""
class PreferredLeaderNotAvailableError(StaleMetadataError, code=80):
    """The preferred leader is not available."""
class GroupMaxSizeReachedError(KafkaError, code=81):
    """The group has as many members as the broker allows."""
class FencedInstanceIdError(KafkaError, code=82):
    """Another member has registered with the same group.instance.id."""
class EligibleLeadersNotAvailableError(StaleMetadataError, code=83):
    """No replica that may become leader is available."""
class ElectionNotNeededError(StaleMetadataError, code=84):
    """The partition needs no election."""
class NoReassignmentInProgressError(KafkaError, code=85):
    """No reassignment of the partition is under way."""
class GroupSubscribedToTopicError(KafkaError, code=86):
    """Offsets of a topic cannot be deleted while the group subscribes to it."""
class InvalidRecordError(KafkaError, code=87):
    """A record failed validation, so its batch was refused."""
class UnstableOffsetCommitError(RetriableError, code=88):
    """Offsets of an open transaction have yet to be decided."""
class ThrottlingQuotaExceededError(RetriableError, code=89):
    """A quota has been exceeded."""
class ProducerFencedError(KafkaError, code=90):
    """A newer producer uses the same transactional id; this one must close."""
class ResourceNotFoundError(KafkaError, code=91):
    """The resource does not exist."""
class DuplicateResourceError(KafkaError, code=92):
    """The request names the same resource twice."""
class UnacceptableCredentialError(KafkaError, code=93):
    """The credential does not meet the criteria."""
class InconsistentVoterSetError(KafkaError, code=94):
    """Sender or recipient is not one of the expected voters."""
class InvalidUpdateVersionError(KafkaError, code=95):
    """The version of the update is not valid."""
class FeatureUpdateFailedError(KafkaError, code=96):
    """The features could not be updated."""
class PrincipalDeserializationFailureError(KafkaError, code=97):
    """A forwarded request's principal could not be read."""
class SnapshotNotFoundError(KafkaError, code=98):
    """The snapshot does not exist."""
class PositionOutOfRangeError(KafkaError, code=99):
    """The position is not within the snapshot's size."""
class UnknownTopicIdError(StaleMetadataError, code=100):
    """The server does not hold a topic of this id."""
class DuplicateBrokerRegistrationError(KafkaError, code=101):
    """The broker id is already in use."""
class BrokerIdNotRegisteredError(KafkaError, code=102):
    """The broker id is not registered."""
class InconsistentTopicIdError(StaleMetadataError, code=103):
    """The log's topic id is not the one in the request."""
class InconsistentClusterIdError(KafkaError, code=104):
    """The cluster id of the request is not that of the server."""
class TransactionalIdNotFoundError(KafkaError, code=105):
    """The transactional id does not exist."""
class FetchSessionTopicIdError(RetriableError, code=106):
    """The fetch session mixed requests with and without topic ids."""
class IneligibleReplicaError(KafkaError, code=107):
    """A replica proposed for the in-sync set is not eligible."""
class NewLeaderElectedError(KafkaError, code=108):
    """The partition was updated, but its leader has changed."""
class OffsetMovedToTieredStorageError(KafkaError, code=109):
    """The offset has been moved to tiered storage."""
class FencedMemberEpochError(KafkaError, code=110):
    """The member was fenced; it must give up its partitions and rejoin."""
class UnreleasedInstanceIdError(KafkaError, code=111):
    """Another member still uses the instance id; it must leave first."""
class UnsupportedAssignorError(KafkaError, code=112):
    """The group does not support the assignor."""
class StaleMemberEpochError(KafkaError, code=113):
    """The member epoch is stale; retry after the next heartbeat."""
class MismatchedEndpointTypeError(KafkaError, code=114):
    """The request went to the wrong type of endpoint."""
class UnsupportedEndpointTypeError(KafkaError, code=115):
    """The type of endpoint is not supported."""
class UnknownControllerIdError(KafkaError, code=116):
    """The controller id is not known."""
class UnknownSubscriptionIdError(KafkaError, code=117):
    """The telemetry subscription is not valid or out of date."""
class TelemetryTooLargeError(KafkaError, code=118):
    """The telemetry push is larger than the broker accepts."""
class InvalidRegistrationError(KafkaError, code=119):
    """The controller holds the broker's registration to be invalid."""
class TransactionAbortableError(KafkaError, code=120):
    """The transaction failed; abort it, then the producer can go on."""
class InvalidRecordStateError(KafkaError, code=121):
    """The delivery could not be acknowledged in the record's state."""
class ShareSessionNotFoundError(RetriableError, code=122):
    """The share session is not known; open a new one."""
class InvalidShareSessionEpochError(RetriableError, code=123):
    """The share session's epoch is not the expected one."""
class FencedStateEpochError(KafkaError, code=124):
    """The state epoch of the share group is not the current one."""
class InvalidVoterKeyError(KafkaError, code=125):
    """The voter key is not the receiving replica's."""
class DuplicateVoterError(KafkaError, code=126):
    """The voter is already one of the voters."""
class VoterNotFoundError(KafkaError, code=127):
    """The voter is not one of the voters."""
class InvalidRegularExpressionError(KafkaError, code=128):
    """The regular expression is not valid."""
class RebootstrapRequiredError(KafkaError, code=129):
    """The client's metadata is stale beyond repair; it must bootstrap again."""
class StreamsInvalidTopologyError(KafkaError, code=130):
    """The topology is not valid."""
class StreamsInvalidTopologyEpochError(KafkaError, code=131):
    """The topology's epoch is not valid."""
class StreamsTopologyFencedError(KafkaError, code=132):
    """The topology's epoch is out of date."""
class ShareSessionLimitReachedError(RetriableError, code=133):
    """The server holds as many share sessions as it allows."""
# raykafka's own codes on the wire.

class ServerBusyError(RetriableError, code=20000):
    """The server holds as many requests or bytes as it allows; wait a little and send again."""
class UnknownSchemaVersionError(StaleMetadataError, code=20001):
    """The topic has a newer schema than the batch; refresh the metadata and encode it again."""
class UnsupportedSchemaChangeError(KafkaError, code=20002):
    """The schema change is not allowed; only nullable columns can be added."""
class LogDamagedError(KafkaStorageError, code=20003, retriable=False, refresh_metadata=False):
    """The log is damaged at this offset; seek past the damaged range or restore the file."""
class DiskFullError(KafkaStorageError, code=20004, refresh_metadata=False):
    """The disk is full up to its reserve; free space or lower the retention. Reads go on."""
class LogDirLockedError(KafkaStorageError, code=20005, retriable=False, refresh_metadata=False):
    """Another process owns the log directory; stop it or use another directory."""

# Raised by clients; these codes are never sent.

class ClientError(RaykafkaError):
    """Raised by a client about itself."""
class ClientClosedError(ClientError, code=-1001):
    """The client is closed; make a new one."""
class BufferExhaustedError(ClientError, code=-1002, retriable=True):
    """buffer_memory stayed full for max_block_ms; send more slowly or raise buffer_memory."""
class DeliveryTimeoutError(ClientError, code=-1003, retriable=True):
    """The record was not acknowledged in delivery_timeout_ms; it may or may not be in the log."""
class ConnectionLostError(ClientError, code=-1004, retriable=True, refresh_metadata=True):
    """The connection broke; whether the request took effect is not known."""
class ClusterUnreachableError(ClientError, code=-1005, retriable=True):
    """No server of the cluster answers; check that it runs and that its address can be reached."""
class IllegalStateError(ClientError, code=-1006):
    """The call is not allowed in the client's current state."""
class NoOffsetForPartitionError(ClientError, code=-1007):
    """The partition has no position and auto_offset_reset is none; seek first."""
class SerializationError(ClientError, code=-1008):
    """A key or value could not be turned into bytes, or back."""
class ProtocolError(ClientError, code=-1009):
    """The peer sent something that the protocol does not allow; the connection was closed."""
class TransactionAbortedError(ClientError, code=-1012):
    """The transaction was aborted before the record was acknowledged."""
class MappedReadError(ClientError, code=-1010, retriable=True):
    """The segment file cannot be mapped here; fetch its bytes over the connection instead."""
class CommitFailedError(ClientError, code=-1011):
    """The member is no longer in the group, so its offsets were not committed; poll rejoins."""
# fmt: on


def error_for(code: int, message: str = "") -> RaykafkaError:
    """The error of ``code``, ``ValueError`` for 0; an unknown code gives ``UnknownServerError``."""
    if code == 0:
        raise ValueError("code 0 means success, there is no error for it")
    error_type = ERRORS_BY_CODE.get(code)
    if error_type is None:
        detail = f": {message}" if message else ""
        return UnknownServerError(f"error code {code}, unknown to this version{detail}")
    return error_type(message)


def raise_for(code: int, message: str = "") -> None:
    """Raise the error of ``code``; return for 0, which means success."""
    if code != 0:
        raise error_for(code, message)
