//! A storage in which a test takes a hand.

/// Methods of a [`Backend`](tillsafe::backend::Backend) that go on to the storage in this field: those in which the test
/// takes no hand.
macro_rules! passed_on {
    ($to:tt: $($method:ident)*) => {
        $($crate::common::passed_on::passed_on!(@ $to $method);)*
    };
    (@ $to:tt location) => {
        fn location(&self) -> String {
            self.$to.location()
        }
    };
    (@ $to:tt create) => {
        fn create(&self) -> tillsafe::backend::Result<()> {
            self.$to.create()
        }
    };
    (@ $to:tt put_new) => {
        fn put_new(
            &self,
            object: tillsafe::backend::Object,
            bytes: &[u8],
        ) -> tillsafe::backend::Result<()> {
            self.$to.put_new(object, bytes)
        }
    };
    (@ $to:tt get) => {
        fn get(
            &self,
            object: tillsafe::backend::Object,
            limit: u64,
        ) -> tillsafe::backend::Result<Vec<u8>> {
            self.$to.get(object, limit)
        }
    };
    (@ $to:tt get_range) => {
        fn get_range(
            &self,
            object: tillsafe::backend::Object,
            offset: u64,
            length: usize,
        ) -> tillsafe::backend::Result<Vec<u8>> {
            self.$to.get_range(object, offset, length)
        }
    };
    (@ $to:tt list) => {
        fn list(
            &self,
            class: tillsafe::backend::Class,
        ) -> tillsafe::backend::Result<tillsafe::backend::Listing> {
            self.$to.list(class)
        }
    };
    (@ $to:tt delete) => {
        fn delete(&self, object: tillsafe::backend::Object) -> tillsafe::backend::Result<()> {
            self.$to.delete(object)
        }
    };
}

pub(crate) use passed_on;
