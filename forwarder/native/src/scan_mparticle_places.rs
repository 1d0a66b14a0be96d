//! Where the members of mParticle's uploads stand that are looked at.

use crate::json::Member;
use crate::scan_layout::{Named, Place};

/// Where the members stand that somebody looks at; one that is null stands nowhere.
#[derive(Clone, Copy)]
pub struct Places {
    pub mpid: Place,
    pub mp_deviceid: Place,
    pub environment: Place,
    pub application_info: Place,
    pub device_info: Place,
    pub user_identities: Place,
    pub source_request_id: Place,
    pub api_key: Place,
    pub api_keys: Place,
    /// Whether it is an upload even without events.
    pub says_whose: bool,
}

/// Names that say more than that a member is there.
pub struct Names {
    /// One of them stands for `events` that are absent or null.
    pub only_uploads: Vec<String>,
    /// Beside an object under one of these, and without events, nothing is an upload.
    pub wrappers: Vec<String>,
}

impl Places {
    /// Find the members by their names; None: it looks like something else.
    pub fn new(text: &[u8], members: &[Member], names: &Names) -> Option<Self> {
        let named = Named { text, members };
        if named.has("event_type") && named.has("data") {
            return None;
        }
        let any = |names: &[String]| names.iter().any(|name| named.has(name));
        Some(Places {
            mpid: named.place("mpid"),
            mp_deviceid: named.place("mp_deviceid"),
            environment: named.place("environment"),
            application_info: named.place("application_info"),
            device_info: named.place("device_info"),
            user_identities: named.place("user_identities"),
            source_request_id: named.place("source_request_id"),
            api_key: named.place("api_key"),
            api_keys: named.place("api_keys"),
            says_whose: any(&names.only_uploads) && !any(&names.wrappers),
        })
    }
}
