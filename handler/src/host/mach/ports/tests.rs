use std::sync::Arc;

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::PortName;

use super::stand_in::StandIn;
use super::*;

fn rights() -> (Arc<StandIn>, Rights) {
    let space = Arc::new(StandIn::default());
    let rights = Rights::new(Arc::<StandIn>::clone(&space), Arc::new(Ledger::new()));
    (space, rights)
}

#[test]
fn every_kind_of_right_is_given_back_once() {
    let (space, rights) = rights();
    let ports = [
        rights.adopt(Group::Messages, Right::Send, space.give_send(1)),
        rights.adopt(Group::Replies, Right::SendOnce, space.give_send_once()),
        rights.adopt(Group::Services, Right::Receive, space.give_receive()),
        rights.adopt(Group::Services, Right::PortSet, space.give_set()),
    ];
    assert_eq!(space.census().len(), 4);
    assert_eq!(rights.ledger().counts(Group::Handler), Counts { retained: 4, released: 0, refused: 0 });
    assert_eq!(rights.ledger().outstanding().len(), 3);
    drop(ports);
    assert!(space.census().is_empty());
    assert_eq!(rights.ledger().counts(Group::Handler), Counts { retained: 4, released: 4, refused: 0 });
    assert!(rights.ledger().outstanding().is_empty());
}

#[test]
fn null_and_dead_are_no_rights() {
    let (_, rights) = rights();
    assert!(rights.adopt(Group::Messages, Right::Send, PortName::NULL).is_none());
    assert!(rights.adopt(Group::Messages, Right::Send, PortName::DEAD).is_none());
    assert_eq!(rights.ledger().counts(Group::Handler), Counts::default());
}

#[test]
fn the_same_object_has_one_name_and_each_right_is_given_back_by_itself() {
    let (space, rights) = rights();
    let first = rights.adopt(Group::Messages, Right::Send, space.give_send(7)).unwrap();
    let second = rights.adopt(Group::Tasks, Right::Send, space.give_send(7)).unwrap();
    assert_eq!(first.name(), second.name());
    drop(first);
    assert_eq!(space.census()[&second.name().0].send, 1);
    drop(second);
    assert!(space.census().is_empty());
}

#[test]
fn a_send_right_whose_port_died_is_given_back_as_a_dead_name() {
    let (space, rights) = rights();
    let port = rights.adopt(Group::Messages, Right::Send, space.give_send(7)).unwrap();
    space.kill(7);
    assert_eq!(port.duplicate(Group::Tasks).err(), Some(KernReturn(17)));
    drop(port);
    assert!(space.census().is_empty());
    assert!(rights.ledger().outstanding().is_empty());
}

#[test]
fn a_right_that_was_given_away_is_not_given_back() {
    let (space, rights) = rights();
    let port = rights.adopt(Group::Replies, Right::SendOnce, space.give_send_once()).unwrap();
    let name = port.give_away();
    assert!(space.take_send_once(name).is_ok());
    assert_eq!(rights.ledger().counts(Group::Replies), Counts { retained: 1, released: 1, refused: 0 });
}

#[test]
fn what_the_kernel_refuses_stays_in_the_ledger() {
    let (space, rights) = rights();
    let wrong = rights.adopt(Group::Services, Right::Receive, space.give_send(1));
    let name = space.give_send_once();
    let twice =
        [rights.adopt(Group::Replies, Right::SendOnce, name), rights.adopt(Group::Replies, Right::SendOnce, name)];
    drop((wrong, twice));
    let outstanding = rights.ledger().outstanding();
    let groups: Vec<_> = outstanding.iter().map(|one| (one.group, one.counts.held(), one.counts.refused)).collect();
    assert_eq!(groups, [(Group::Services, 1, 1), (Group::Replies, 1, 1)]);
    assert_eq!(outstanding[1].to_string(), "replies: 2 rights taken, 1 given back, 1 refused");
}

#[test]
fn the_stand_in_refuses_what_the_kernel_refuses() {
    let space = StandIn::default();
    assert_eq!(space.deallocate(PortName(0x103)), Err(KernReturn(15)));
    let receive = space.give_receive();
    assert_eq!(space.deallocate(receive), Err(KernReturn(17)));
    assert_eq!(space.retain_send(receive), Err(KernReturn(17)));
    let send = space.give_send(1);
    assert_eq!(space.destroy_receive(send), Err(KernReturn(17)));
    assert_eq!(space.destroy_set(send), Err(KernReturn(17)));
    assert_eq!(space.deallocate(space.give_set()), Err(KernReturn(17)));
    assert_eq!(space.take_send_once(send), Err(KernReturn(17)));
    for _ in 0..0xFFFF {
        space.give_send(1);
    }
    // Pegged: it can't be had again, and giving back changes nothing any more.
    assert_eq!(space.retain_send(send), Err(KernReturn(19)));
    assert_eq!(space.deallocate(send), Ok(()));
    assert_eq!(space.census()[&send.0].send, 0xFFFF);
}

#[test]
fn a_group_counts_for_its_parents_and_a_scope_for_the_ledger_around_it() {
    let (space, rights) = rights();
    let crash = rights.scope();
    let _kept = rights.adopt(Group::Services, Right::Receive, space.give_receive());
    let task = crash.adopt(Group::Tasks, Right::Send, space.give_send(1));
    let threads: Vec<_> =
        (2..5).map(|object| crash.adopt(Group::Threads, Right::Send, space.give_send(object))).collect();
    assert_eq!(rights.ledger().counts(Group::TaskReader).held(), 4);
    assert_eq!(rights.ledger().counts(Group::Handler).held(), 5);
    assert_eq!(crash.ledger().counts(Group::Handler).held(), 4);
    drop((task, threads));
    assert!(crash.ledger().outstanding().is_empty());
    assert_eq!(rights.ledger().outstanding().len(), 1);
}

#[test]
fn when_asked_the_ledger_says_where_a_right_that_is_still_held_was_taken() {
    let (space, rights) = rights();
    rights.ledger().note_places(true);
    let crash = rights.scope();
    let first = crash.adopt(Group::Threads, Right::Send, space.give_send(1)).unwrap();
    let line = line!() - 1;
    let second = first.duplicate(Group::Threads).unwrap();
    drop(second);
    for ledger in [rights.ledger(), crash.ledger()] {
        let outstanding = ledger.outstanding();
        assert_eq!(outstanding.len(), 1);
        let [(place, 1)] = outstanding[0].places[..] else { panic!("{outstanding:?}") };
        assert_eq!((place.line(), place.file().ends_with("tests.rs")), (line, true));
    }
}

#[test]
fn the_tree_is_one() {
    for (index, group) in Group::ALL.into_iter().enumerate() {
        assert_eq!(group as usize, index);
        assert!(group.is_within(Group::Handler));
        assert!(group.parent().is_none_or(|parent| (parent as usize) < index));
    }
    let tree = Ledger::new().describe();
    assert_eq!(tree.lines().count(), Group::ALL.len());
    assert!(tree.contains("\n    threads: 0 held"));
}

#[test]
fn a_dead_name_reference_from_a_notification_is_given_back() {
    let (space, rights) = rights();
    let port = rights.adopt(Group::ClientSessions, Right::Send, space.give_send(3)).unwrap();
    space.kill(3);
    space.give_dead(port.name());
    assert_eq!(space.census()[&port.name().0].dead, 2);
    drop(rights.adopt(Group::Notifications, Right::DeadName, port.name()));
    drop(port);
    assert!(space.census().is_empty());
}
