#!/usr/bin/env ruby
# Scales by listeners: a gear is drained before it is taken. Remove this file to have the platform's own rule,
# which takes a gear with whoever listens there.
require File.join(ENV['OPENSHIFT_SCS_DIR'], 'usr', 'lib', 'scaler.rb')
Relayctl::Scaler.new(ENV).run
