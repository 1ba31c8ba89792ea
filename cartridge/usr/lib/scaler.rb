# Adds and removes gears by listeners, in place of the platform's own rule: that one removes a gear with
# whoever listens there. This one drains the gear that the platform would take (the newest), and lets it be
# taken once nobody listens on it. If the audience comes back meanwhile, the gear is resumed.
#
# Runs on the head gear, started by the platform's haproxy_ctld_daemon through
# .openshift/action_hooks/haproxy_ctld.rb. `Rule` is pure: what it is told is all that it knows.

require 'json'
require 'logger'

module Relayctl
  # A gear that plays, as the primary's table has it.
  Gear = Struct.new(:name, :head, :listeners, :draining)

  # When to add, to drain, to take and to resume.
  class Rule
    # Percent of the listeners that all gears may have.
    UP = 90.0

    def initialize(per_gear, calm = 20, dwell = 600)
      @per_gear = per_gear.to_f
      @calm = calm
      @dwell = dwell
      @quiet = 0
      @added = nil
    end

    # [:add], [:drain, name], [:resume, name], [:remove, name] or nil. `now` is in seconds.
    def decide(gears, now)
      @added ||= now
      victim = newest(gears)
      leaving = victim if victim && victim.draining
      staying = leaving ? gears - [leaving] : gears
      return nil if staying.empty?
      return come_back(leaving, now) if percent(gears, staying.size) >= UP
      return leaving.listeners.zero? ? [:remove, leaving.name] : nil if leaving
      return nil if victim.nil?
      @quiet = percent(gears, gears.size) < down(gears.size) ? @quiet + 1 : 0
      return nil if @quiet < @calm || now - @added < @dwell
      @quiet = 0
      [:drain, victim.name]
    end

    private

    # More are wanted: the one that leaves is the cheapest to have.
    def come_back(leaving, now)
      @quiet = 0
      return [:resume, leaving.name] if leaving
      @added = now
      [:add]
    end

    # The platform takes the last gear of its list. Their names are its identifiers, which begin with the
    # time they were made at.
    def newest(gears)
      gears.reject { |gear| gear.head }.max_by { |gear| gear.name }
    end

    def percent(gears, count)
      listeners = gears.inject(0) { |sum, gear| sum + gear.listeners }
      100.0 * listeners / (count * @per_gear)
    end

    # One gear fewer must be well below the point where one more would be wanted.
    def down(count)
      UP * [1 - 1.0 / count, 0.85].max - UP / count
    end
  end

  # Asks the node of this gear, and carries out what the rule decides.
  class Scaler
    def initialize(env)
      @env = env
      cartridge = env['OPENSHIFT_SCS_DIR'].chomp('/')
      places = [env['OPENSHIFT_SCS_BINARY'], "#{cartridge}/usr/bin/relayctl", "#{cartridge}/run/bin/relayctl"]
      @relayctl = places.compact.find { |place| File.executable?(place) }
      @data_dir = env['RELAYCTL_DATA_DIR']
      @pause = Float(env['OPENSHIFT_SCS_SCALER_PAUSE'] || 5)
      @rule = Rule.new(
        Integer(env['OPENSHIFT_MAX_SESSIONS_PER_GEAR'] || 1000),
        Integer(env['OPENSHIFT_SCS_SCALER_CALM'] || 20),
        Integer(env['OPENSHIFT_SCS_SCALER_DWELL'] || 600)
      )
      place = env['OPENSHIFT_HAPROXY_LOG_DIR']
      @log = Logger.new(place ? File.join(place, 'scale_events.log') : $stdout)
    end

    def run
      loop do
        step
        sleep @pause
      end
    end

    def step
      action = @rule.decide(gears, Time.now.to_f)
      carry_out(*action) if action
    rescue StandardError => e
      @log.error("#{e.class}: #{e.message}")
    end

    private

    # Ready and draining nodes; the others take nobody and are nobody's capacity.
    def gears
      nodes = JSON.parse(ask('get', 'nodes', '-o', 'json'))['nodes']
      alive = nodes.select { |node| %w[ready draining].include?(node['state']) }
      alive.map do |node|
        Gear.new(node['name'], node['role'] == 'primary', node['listeners'].to_i, node['state'] == 'draining')
      end
    end

    def carry_out(action, name = nil)
      @log.info([action, name].compact.join(' '))
      case action
      when :drain then ask('drain', name, '--detach')
      when :resume then ask('resume', name)
      when :add then scale('add-gear')
      when :remove then scale('remove-gear')
      end
    end

    def ask(*words)
      answer = IO.popen([@relayctl, *words, '--data-dir', @data_dir], &:read)
      raise "relayctl #{words.join(' ')} failed" unless $?.success?
      answer
    end

    # The platform's own words for its broker.
    def scale(word)
      namespace = @env['OPENSHIFT_GEAR_DNS'].split('.')[0].split('-')[1].to_s
      ok = system("#{@env['OPENSHIFT_HAPROXY_DIR'].chomp('/')}/usr/bin/#{word}", '-n', namespace,
                  '-a', @env['OPENSHIFT_APP_NAME'].to_s, '-u', @env['OPENSHIFT_GEAR_UUID'])
      raise "#{word} failed" unless ok
    end
  end
end

if $PROGRAM_NAME == __FILE__
  Relayctl::Scaler.new(ENV).run
end
