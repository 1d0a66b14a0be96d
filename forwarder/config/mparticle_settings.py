"""The description of ``settings`` in a connection file: mParticle's names, one line each."""

from forwarder.config import mparticle_exclusions
from forwarder.config.connection import Settings
from forwarder.config.yaml.sections import Field, ListValue, Section, SectionValues
from forwarder.config.yaml.values import FlagValue, NullableValue, TextValue


def _flag(name: str, about: str) -> Field:
    return Field(name, FlagValue(), about)


def _setting_notes(section: SectionValues) -> None:
    if section.get("wait_for_complete_batch") and section.get("send_as_batch") is False:
        what = "is ignored: wait_for_complete_batch is on, so every session is sent as one document"
        section.note("send_as_batch", what)
    if (
        section.get("include_event_batch_location")
        and section.get("include_location_information") is False
    ):
        what = "has no effect: include_location_information is off, which removes every location"
        section.note("include_event_batch_location", what)


SETTINGS = Section(
    Settings,
    (
        Field(
            "unique_id",
            NullableValue(TextValue()),
            "Constant text put into every batch as unique_id.",
        ),
        _flag(
            "send_lifecycle_events",
            "Send session_start, session_end, application_state_transition and first_run events.",
        ),
        _flag("send_screen_views", "Send screen_view events."),
        _flag("send_crash_events", "Send crash_report and breadcrumb events."),
        _flag("send_network_performance_events", "Send network_performance events."),
        _flag("send_custom_events", "Send custom_event events."),
        _flag(
            "send_push_registrations_and_receipts",
            "Send push_registration, push_message and push_reaction events.",
        ),
        _flag(
            "send_as_batch",
            "Batch the events of a device; off: every event at once, as a document of its own.",
        ),
        _flag(
            "wait_for_complete_batch",
            "One document per user session, after it ended; send_as_batch is then ignored.",
        ),
        _flag(
            "include_location_information",
            "Keep data.location of events, of the breadcrumbs in them, and context.location.",
        ),
        _flag("include_mp_deviceid", "Keep mp_deviceid."),
        _flag("send_profile_change_events", "Send profile events."),
        _flag("send_commerce_events", "Send commerce_event events."),
        _flag(
            "include_metadata",
            "Keep device_info, application_info and source_info; off: application_info.package.",
        ),
        _flag("include_user_attribute_change_events", "Send user_attribute_change events."),
        _flag("include_user_identity_change_events", "Send user_identity_change events."),
        _flag("include_user_identities", "Keep user_identities."),
        _flag("include_consent_state", "Keep consent_state."),
        _flag("include_event_batch_location", "Keep context.location."),
        _flag("include_system_notifications", "Keep system_notifications."),
        _flag(
            "send_batches_without_events",
            "Send uploads that hold no event, or none that passes, for the context they carry.",
        ),
        _flag("send_validation_results", "Send validation_result events."),
        _flag("send_unknown_events", "Send events of types this release does not know."),
        Field(
            "metadata_field_exclusion",
            ListValue(
                TextValue(
                    "a path such as device_info.device_name",
                    check=mparticle_exclusions.path_complaint,
                )
            ),
            "Paths removed from every batch, from its top, without wildcards, never inside events; "
            "user_identities.TYPE removes one identity.",
        ),
        _flag(
            "int64_as_string",
            "Quote event_id, session_id, mpid and batch_id, for readers that keep 53 bits only.",
        ),
        Field(
            "screen_view_event_types",
            ListValue(TextValue("an event type such as pageView")),
            "The event types of Pinpoint's events that are screen views, which have no type of "
            "their own there.",
        ),
    ),
    checks=(_setting_notes, mparticle_exclusions.check_exclusions),
)
