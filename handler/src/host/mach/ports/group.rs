//! The groups of the ledger: a small tree, from the whole handler down to one kind of right.

/// Who holds a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Everything.
    Handler,
    /// What exceptions arrive by.
    ExceptionServer,
    /// Receive rights: service ports and ports of single clients.
    Services,
    /// Rights that messages carried: tasks, threads, identity tokens.
    Messages,
    /// Rights to answer with.
    Replies,
    /// Vouchers: while one is held, the sender's importance is lent to us.
    Vouchers,
    /// What a task is read by.
    TaskReader,
    /// Task ports made from identity tokens.
    Tasks,
    /// Threads of a task.
    Threads,
    /// Tokens that keep a task suspended.
    Suspensions,
    /// What notifications brought: dead names, receive rights that come back.
    Notifications,
    /// Ports made for clients.
    ClientSessions,
}

impl Group {
    /// All of them, each after its parent.
    pub const ALL: [Group; 12] = [
        Group::Handler,
        Group::ExceptionServer,
        Group::Services,
        Group::Messages,
        Group::Replies,
        Group::Vouchers,
        Group::TaskReader,
        Group::Tasks,
        Group::Threads,
        Group::Suspensions,
        Group::Notifications,
        Group::ClientSessions,
    ];

    /// The group that this one is part of; `None` for the whole handler.
    pub const fn parent(self) -> Option<Group> {
        match self {
            Group::Handler => None,
            Group::ExceptionServer | Group::TaskReader | Group::Notifications | Group::ClientSessions => {
                Some(Group::Handler)
            }
            Group::Services | Group::Messages | Group::Replies | Group::Vouchers => Some(Group::ExceptionServer),
            Group::Tasks | Group::Threads | Group::Suspensions => Some(Group::TaskReader),
        }
    }

    /// Its name, as `aftermach doctor` shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Handler => "handler",
            Group::ExceptionServer => "exception server",
            Group::Services => "service ports",
            Group::Messages => "messages",
            Group::Replies => "replies",
            Group::Vouchers => "vouchers",
            Group::TaskReader => "task reader",
            Group::Tasks => "tasks",
            Group::Threads => "threads",
            Group::Suspensions => "suspensions",
            Group::Notifications => "notifications",
            Group::ClientSessions => "client sessions",
        }
    }

    /// How many groups stand above it.
    pub fn depth(self) -> usize {
        std::iter::successors(self.parent(), |group| group.parent()).count()
    }

    /// Whether `self` is `other` or part of it.
    pub fn is_within(self, other: Group) -> bool {
        std::iter::successors(Some(self), |group| group.parent()).any(|group| group == other)
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}
