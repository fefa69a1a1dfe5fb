//! What stands for tables where the feature `rows` is off: types that have no value.

use super::RowRequest;

/// See the module of the same name with the feature `rows`.
#[derive(Clone, Debug)]
pub(crate) enum RowFormat {}

impl RowFormat {
    pub(crate) fn record_ends(&self) -> Option<RecordEnds> {
        match *self {}
    }

    pub(crate) fn is_csv(&self) -> bool {
        match *self {}
    }

    pub(crate) fn names_rows(&self) -> bool {
        match *self {}
    }

    pub(crate) fn request(&self, _: &str) -> RowRequest {
        match *self {}
    }

    pub(crate) fn additions(&self) -> Vec<String> {
        match *self {}
    }
}

/// See the module of the same name with the feature `rows`.
#[derive(Clone, Debug)]
pub(crate) enum RecordEnds {}

impl RecordEnds {
    pub(crate) fn begin(&mut self) {
        match *self {}
    }

    pub(crate) fn end_with(&mut self, _: &[u8]) -> bool {
        match *self {}
    }
}
