"""Why there is no job, or no answer of one."""

from rlad_core.client.errors import NotReadyError, ServiceError

POLL_AFTER_S, FULL_RETRY_AFTER_S = 2, 30.0


class NoJobsError(NotReadyError):
    """The service was started without a folder for jobs."""

    status = 501
    title = "No jobs are kept here"


class NotKeptError(ServiceError):
    """The job cannot be written, for instance to a full disk."""

    status = 503
    title = "The job is not kept"
    retry_after_s = FULL_RETRY_AFTER_S


class NoRoomError(ServiceError):
    """What was done of the job cannot be kept now; it is left until it can. Told to nobody."""

    title = "There is no room"


class UnreadableJobError(ServiceError):
    """What is kept of the job is garbled, or the disk does not give it."""

    title = "The job cannot be read"


class ChangedError(ServiceError):
    """The service came to be another one, of other weights for instance, before the job was done."""

    title = "The service was changed before the job was done"


class DeadlyError(ServiceError):
    """Whatever works on the job ends with it."""

    title = "The job ended what worked on it"


class LeftError(ServiceError):
    """Who works on the job leaves it where it is: it is cancelled, or the service ends. Told to nobody."""

    title = "The job was left"


class UnfinishedError(ServiceError):
    """There is no answer yet."""

    status = 409
    title = "Not done yet"
    retry_after_s = POLL_AFTER_S


class OtherAnswerError(ServiceError):
    """The answer is another one than that of which more is wanted (RFC 9110, 13.1.1)."""

    status = 412
    title = "It is another answer"


class NoSuchPartError(ServiceError):
    """The answer ends before the part that is asked for (RFC 9110, 15.5.17)."""

    status = 416
    title = "The answer has no such part"


class CancelledError(ServiceError):
    """There will be no answer."""

    status = 410
    title = "The job was cancelled"
